# needs: redis-server redis-cli redis-benchmark python3
# timeout: 300
# quick
# redis and its clients in one image: BGSAVE and AOF rewrites while keys change, their child killed, a replica that is filled by a
# fork, death of the server by SIGKILL, restart with the data.
. "$(dirname "$LIB")/lib-image.sh"
cd "$dir"
port=$(free_port)
cli() { redis-cli -p "$port" "$@"; }
info() { cli info "$1" | tr -d '\r' | sed -n "s/^$2://p"; }
answers() { [ "$(cli ping)" = PONG ]; }
is() { [ "$(info "$1" "$2")" = "$3" ]; }
serve() {
    redis-server --port "$port" --bind 127.0.0.1 --dir "$dir" --save '' --loglevel notice --logfile log "$@" & pid=$!
    soon answers
}
fill() { seq "$1" "$2" | sed "s/.*/SET key:& $3-&/" | cli --pipe | grep errors; }
# Writes that go on while a child saves.
writes() { redis-benchmark -p "$port" -n 20000 -c 8 -r 5000 -q set 'other:__rand_int__' x > /dev/null; }
serve --appendonly yes --appendfsync everysec --repl-diskless-sync-delay 0
fill 1 20000 first
cli config set rdb-key-save-delay 20 > /dev/null
writes & w=$!
cli bgsave; fill 1 100 changed
soon is persistence rdb_bgsave_in_progress 0; wait $w
info persistence rdb_last_bgsave_status
writes & w=$!
cli bgrewriteaof; fill 101 200 changed
soon is persistence aof_rewrite_in_progress 0; wait $w
info persistence aof_last_bgrewrite_status
cli config set rdb-key-save-delay 1000 > /dev/null
cli bgsave
child=$(pgrep -P $pid); kill -KILL "$child"
soon is persistence rdb_bgsave_in_progress 0
info persistence rdb_last_bgsave_status
grep -c 'terminated by signal 9' log
cli config set rdb-key-save-delay 0 > /dev/null
cli bgsave; soon is persistence rdb_bgsave_in_progress 0; info persistence rdb_last_bgsave_status
cli get key:50; cli get key:150; cli get key:19999
digest() { for n in $(seq 1 97 20000); do echo "get key:$n"; done | cli | sha256sum; }
digest
kill -KILL $pid; wait $pid 2> /dev/null; echo "ended with $?"
serve --appendonly yes --appendfsync everysec --repl-diskless-sync-delay 0
digest
first=$port
port=$(free_port)
mkdir replica
redis-server --port "$port" --bind 127.0.0.1 --dir "$dir/replica" --save '' --logfile "$dir/replica/log" --replicaof 127.0.0.1 "$first" & replica=$!
soon answers
soon is replication master_link_status up
digest
(port=$first; fill 1 300 replicated)
got() { [ "$(cli get key:300)" = replicated-300 ]; }
soon got && digest
cli set key:1 x
cli replicaof no one; kill -TERM $pid; wait $pid; echo "ended with $?"
cli set key:1 x; cli get key:1
cli shutdown nosave; wait $replica; echo "ended with $?"
port=$first
rm -r appendonlydir
serve --appendonly no; cli get key:150; cli get key:301; cli shutdown nosave; wait $pid; echo "ended with $?"
