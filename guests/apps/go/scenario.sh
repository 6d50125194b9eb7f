# needs: go curl
# timeout: 300
# A Go net/http server with four processors asked for, its own clients, goroutines that spin, SIGURG preemption, subprocesses.
. "$LIB"
export GOCACHE=$BUILD_CACHE/go GOFLAGS=-mod=mod GO111MODULE=on GOTOOLCHAIN=local CGO_ENABLED=0
cp "$SCENARIO"/main.go.txt main.go
printf 'module scenario\n\ngo 1.19\n' > go.mod
go build -trimpath -o server main.go || exit 1
export GOMAXPROCS=4
$RUN ./server work; echo "exit $?"
$RUN ./server spin; echo "exit $?"
$RUN ./server panic 2> err; echo "exit $? $(grep -c 'panic: on purpose' err)"
GOMAXPROCS=1 $RUN ./server work; echo "exit $?"
port=$(free_port)
start $RUN ./server serve "127.0.0.1:$port"
up "$port" || exit 1
url=http://127.0.0.1:$port
curl -s "$url/hello"
for i in $(seq 50); do echo "$url/n$i"; done | xargs curl -s | sha256sum
seq 40 | xargs -P 8 -I{} curl -s "$url/slow{}" | sort | uniq | wc -l
curl -s "$url/fanout"
kill -HUP "$pid"
hung_up() { [ "$(curl -s "$url/hups")" = 1 ]; }
soon hung_up
curl -s "$url/hups"
finish "$pid" TERM
