# needs: java javac curl
# timeout: 300
# java 17: thread pool, garbage collection, null-pointer traps, spins, HttpServer. Classes are compiled natively beforehand.
. "$LIB"
javac -d classes "$SCENARIO"/*.java 2> /dev/null || exit 1
j() { $RUN java -Xmx256m -XX:+UseSerialGC -cp classes "$@"; }
j Basics one two; echo "exit $?"
j Pool; echo "exit $?"
j Spin; echo "exit $?"
$RUN java -Xmx128m -XX:+UseG1GC -cp classes Garbage; echo "exit $?"
$RUN java -Xmx128m -XX:+UseParallelGC -cp classes Garbage; echo "exit $?"
j Exits 3; echo "exit $?"
j Exits throw 2> err; echo "exit $? $(grep -c IllegalStateException err)"
$RUN java -version 2>&1 | grep -c Runtime
port=$(free_port)
start $RUN java -Xmx256m -cp classes Http "$port"
up "$port" || exit 1
url=http://127.0.0.1:$port
curl -s "$url/hello"
for i in $(seq 30); do echo "$url/n$i"; done | xargs curl -s | sha256sum
seq 20 | xargs -P 4 -I{} curl -s "$url/slow{}" | sort | uniq | wc -l
curl -s "$url/quit"
wait "$pid"; echo "server ended with $?"
