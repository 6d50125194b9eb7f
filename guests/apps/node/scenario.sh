# needs: node curl
# timeout: 300
# http server driven from outside, worker_threads, child_process, fs, crypto, timers, streams; a loop that a JIT must reach.
. "$LIB"
for t in fs crypto workers child timers; do
    $RUN node "$SCENARIO/$t.js"
    echo "$t: exit $?"
done
port=$(free_port)
start $RUN node "$SCENARIO/http.js" "$port"
up "$port" || exit 1
url=http://127.0.0.1:$port
curl -s "$url/hello"
for i in $(seq 50); do echo "$url/n$i"; done | xargs curl -s | sha256sum
head -c 2000000 /dev/zero | curl -s --data-binary @- "$url/upload"
curl -s "$url/stream" | sha256sum
seq 40 | xargs -P 8 -I{} curl -s "$url/slow{}" | sort | uniq | wc -l
curl -s -o /dev/null -w '%{http_code}\n' "$url/missing"
curl -s "$url/quit"
wait "$pid"; echo "server ended with $?"
