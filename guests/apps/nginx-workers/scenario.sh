# needs: nginx curl wrk
# A master with four workers: load from the host, reloads by HUP under load without a failed request, orderly end by QUIT.
. "$LIB"
port=$(free_port)
mkdir -p html logs tmp
chmod 755 . html logs tmp
echo "first" > html/index.html
sed "s#@PORT@#$port#; s#@DIR@#$PWD#; s#master_process off#master_process on#; s#worker_processes 1#worker_processes 4#" "$SCENARIO/../nginx/nginx.conf" > nginx.conf
[ "$(id -u)" != 0 ] || sed -i '1i user root;' nginx.conf
start $RUN nginx -p "$PWD" -c "$PWD/nginx.conf"
up "$port" || exit 1
url=http://127.0.0.1:$port
load() { wrk -t 2 -c 32 -d "$1" --timeout 60s "${@:2}" "$url/" > wrk 2>&1; echo "wrk $? errors $(grep -cE 'Socket errors|Non-2xx' wrk) some $(awk '/requests in/ { print ($1 > 0) }' wrk)"; }
answers() { [ "$(curl -s "$url/status")" = "$1" ]; }
curl -s "$url/"
load 2
curl -s "$url/status"
load 3 -H 'Connection: close' & loader=$!
for n in 1 2 3; do
    sed -i "s#\"[a-z0-9]*\\\\n\"#\"reloaded$n\\\\n\"#" nginx.conf
    kill -HUP "$pid"
    soon answers reloaded$n
done
wait $loader
curl -s "$url/status"
finish "$pid" QUIT
