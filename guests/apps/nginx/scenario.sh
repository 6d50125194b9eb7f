# needs: nginx curl wrk
# nginx in the foreground as one process: files, ranges, keep-alive, errors, a large file, load.
. "$LIB"
port=$(free_port)
mkdir -p html logs tmp
chmod 755 . html
echo "<h1>index</h1>" > html/index.html
head -c 3000000 /dev/zero | tr '\0' 'z' > html/big
for i in $(seq 100); do echo "page $i" > html/p$i; done
sed "s#@PORT@#$port#; s#@DIR@#$PWD#" "$SCENARIO/nginx.conf" > nginx.conf
$RUN nginx -t -p "$PWD" -c "$PWD/nginx.conf" 2>&1 | grep -c successful
start $RUN nginx -p "$PWD" -c "$PWD/nginx.conf"
up "$port" || exit 1
url=http://127.0.0.1:$port
curl -s "$url/"
curl -s -o /dev/null -w '%{http_code} %{size_download}\n' "$url/big"
curl -s "$url/big" | sha256sum
curl -s -r 10-19 -w ' %{http_code}\n' "$url/p10" "$url/big"
curl -s -o /dev/null -w '%{http_code}\n' "$url/none"
curl -s -I "$url/p7" | tr -d '\r' | grep -E '^(HTTP|Content-Length|Connection)'
for i in $(seq 100); do echo "$url/p$i"; done | xargs curl -s | sha256sum
curl -s --data-binary @html/p5 -o /dev/null -w '%{http_code}\n' "$url/"
curl -s --http1.0 "$url/status"
wrk -t 2 -c 16 -d 2 --timeout 60s "$url/" > wrk 2>&1
echo "wrk $? errors $(grep -cE 'Socket errors|Non-2xx' wrk) some $(awk '/requests in/ { print ($1 > 0) }' wrk)"
mv logs/access.log logs/access.old; kill -USR1 "$pid"; soon [ -e logs/access.log ]
curl -s "$url/p1"
soon grep 'GET /p1' logs/access.log && echo logged
finish "$pid" QUIT
