# needs: gcc
# timeout: 300
# UNIX sockets below the working directory between a program on the system under test and one of the host: each is the
# server once.
. "$LIB"
gcc -O1 -Wall -o border "$SCENARIO/border.c" || exit 1
mkdir dir

# both NAME SERVER-PREFIX CLIENT-PREFIX [SERVER-ARGUMENT CLIENT-ARGUMENT]: the server's lines after the client's.
both() {
    local path="$PWD/dir/$1.sock"
    $2 ./border "$1-server" "$path" ${4:-} > out &
    pid=$!
    started+=("$pid")
    $3 ./border "$1-client" "$path" ${5:-}
    echo "$1 client: $?"
    wait "$pid"
    echo "$1 server: $?"
    cat out
    rm -f "$path"
}

for name in stream packet dgram error; do
    echo "== $name, server on the host"
    both $name "" "$RUN"
    echo "== $name, client on the host"
    both $name "$RUN" ""
done
# Descriptors do not cross.
no=0 to_host=fd from_host=fd
[ -n "$RUN" ] && no=EPERM to_host=none from_host=cut
echo "== rights, server on the host"
both rights "" "$RUN" $to_host $no
echo "== rights, client on the host"
both rights "$RUN" "" $from_host 0
