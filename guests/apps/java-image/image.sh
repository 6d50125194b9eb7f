# needs: java javac curl
# timeout: 300
# java as one image with its compiler and its clients: thread pools, garbage collections, code that is compiled while it
# runs, an HTTP server. Cut, it goes on in other processes in the middle of each.
. "$(dirname "$LIB")/lib-image.sh"
cd "$dir" || exit 1
javac -d classes "$SCENARIO"/../java/*.java 2> /dev/null
echo "javac: exit $?"
j() { java -Xmx256m -XX:+UseSerialGC -cp classes "$@"; }
j Basics one two; echo "exit $?"
j Pool; echo "exit $?"
java -Xmx128m -XX:+UseG1GC -cp classes Garbage; echo "exit $?"
port=$(free_port)
j Http "$port" &
server=$!
url=http://127.0.0.1:$port
soon curl -s "$url/hello"
for i in $(seq 20); do curl -s "$url/n$i"; done | sha256sum
curl -s "$url/quit"
wait $server
echo "server ended with $?"
