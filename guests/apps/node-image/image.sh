# needs: node curl
# timeout: 300
# node as one image with its clients: what the scenario of node does, an http server, and code that a JIT compiles while
# it runs. Cut, it goes on in other processes in the middle of each.
. "$(dirname "$LIB")/lib-image.sh"
cd "$dir" || exit 1
for t in fs crypto workers child timers; do
    node "$SCENARIO/../node/$t.js"
    echo "$t: exit $?"
done
cat > hot.js <<'J'
function mix(a, b) { return (Math.imul(a, 2654435761) ^ (b >>> 3)) >>> 0; }
class P { constructor(x) { this.x = x; } get y() { return this.x * 3; } }
for (let round = 0; round < 6; round++) {
  let h = round, o = {};
  for (let i = 0; i < 2e6; i++) h = mix(h, i);
  // Other shapes throw away what was compiled for the ones before.
  for (let i = 0; i < 2e4; i++) { const p = round % 2 ? new P(i) : { y: i }; o[i % 97] = p.y + h % 7; }
  console.log(round, h, Object.values(o).reduce((a, b) => a + b, 0));
}
J
node hot.js
echo "hot: exit $?"
port=$(free_port)
node "$SCENARIO/../node/http.js" "$port" &
server=$!
url=http://127.0.0.1:$port
soon curl -s "$url/hello"
for i in $(seq 30); do curl -s "$url/n$i"; done | sha256sum
curl -s "$url/stream" | sha256sum
curl -s "$url/quit"
wait $server
echo "server ended with $?"
