# needs: nginx curl wrk pgrep python3
# timeout: 300
# quick
# nginx as a master with 4 workers, and its clients, in one image: reloads under load lose no request, a killed worker is
# replaced, the binary is upgraded in place, and an orderly end.
. "$(dirname "$LIB")/lib-image.sh"
cd "$dir"
mkdir html logs tmp
chmod 755 . html logs tmp
echo "first" > html/index.html
head -c 300000 /dev/zero | tr '\0' 'z' > html/big
port=$(free_port)
sed "s#daemon off#daemon on#; s#@PORT@#$port#; s#@DIR@#$PWD#; s#master_process off#master_process on#; s#worker_processes 1#worker_processes 4#" "$SCENARIO/../nginx/nginx.conf" > nginx.conf
[ "$(id -u)" != 0 ] || sed -i '1i user root;' nginx.conf
nginx() { "$binary" -p "$PWD" -c "$PWD/nginx.conf" "$@"; }
binary=$(type -P nginx) # by its path: the upgrade executes it as it was called
url=http://127.0.0.1:$port
answers() { [ "$(curl -s "$url/status")" = "$1" ]; }
gone() { [ ! -e "/proc/$1" ]; }
workers() { [ "$(pgrep -P "$1" | wc -l)" = "$2" ]; }
# Works until the file `enough` is there; what failed meanwhile.
load() {
    local some=0
    # A second without a request is no failure of a machine that gives its CPUs to others meanwhile.
    until [ -e enough ] && [ $some -gt 0 ]; do
        wrk -t 1 -c 8 -d 1 --timeout 60s -H 'Connection: close' "$url/" > wrk 2>&1 || echo "wrk failed"
        grep -E 'Socket errors|Non-2xx' wrk
        some=$((some + $(awk '/requests in/ { print $1 }' wrk)))
    done > loaded
}

nginx; echo "daemon $?"
pid=$(cat nginx.pid)
soon curl -s "$url/"
curl -s "$url/"
curl -s "$url/big" | sha256sum
soon workers "$pid" 4 && echo "4 workers"
load & loader=$!
for n in 1 2 3; do
    old=$(pgrep -P "$pid")
    sed -i "s#\"[a-z0-9]*\\\\n\"#\"reload$n\\\\n\"#" nginx.conf
    nginx -s reload && echo "reload $?"
    soon answers reload$n
    for w in $old; do soon gone "$w"; done
    curl -s "$url/status"
    soon workers "$pid" 4 && echo "4 new workers"
done
touch enough; wait $loader; echo "failed under load: $(wc -l < loaded)"; cat loaded
for signal in KILL SEGV TERM; do
    old=$(pgrep -P "$pid" | head -1)
    kill -$signal "$old"
    soon gone "$old"
    soon workers "$pid" 4 && answers reload3 && echo "$signal: replaced"
done
grep -oE 'exited on signal [0-9]+' logs/error.log
sed -i "s#\"[a-z0-9]*\\\\n\"#\"upgraded\\\\n\"#" nginx.conf
kill -USR2 "$pid"
soon [ -e nginx.pid.oldbin ]; soon [ -s nginx.pid ]
soon workers "$(cat nginx.pid)" 4
kill -WINCH "$pid"
soon answers upgraded && curl -s "$url/status"
kill -QUIT "$pid"; soon gone "$pid" && echo "old master ended"
mv logs/access.log logs/access.old
# Each worker opens it by itself, some time after the master has.
logged() { answers upgraded && grep -q status logs/access.log; }
nginx -s reopen; soon [ -e logs/access.log ] && soon logged && echo "log reopened"
new=$(cat nginx.pid)
nginx -s quit
soon gone "$new"; [ -e nginx.pid ] || echo "ended in order"
grep -cE 'emerg|crit' logs/error.log
exit 0
