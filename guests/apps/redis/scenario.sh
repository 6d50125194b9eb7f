# needs: redis-server redis-cli redis-benchmark
# timeout: 300
# redis-server driven by the host's redis-cli and redis-benchmark; BGSAVE and AOF rewrite fork; data is back after a restart.
. "$LIB"
port=$(free_port)
cli() { redis-cli -p "$port" "$@"; }
serve() {
    start $RUN redis-server --port "$port" --bind 127.0.0.1 --daemonize no --dir "$PWD" --appendonly yes --save '' --loglevel warning "$@" > log 2>&1
    up "$port" || exit 1
    until [ "$(cli ping 2> /dev/null)" = PONG ]; do sleep 0.05; done
}
serve
cli set key value
cli get key
cli incrby counter 41; cli incr counter
cli rpush list a b c; cli lrange list 0 -1
cli hset hash f1 v1 f2 v2; cli hgetall hash
cli zadd z 3 c 1 a 2 b; cli zrange z 0 -1 withscores
cli eval 'local s = 0; for i = 1, 1000 do s = s + i end; return s' 0
cli setex gone 1000 x; cli persist gone; cli ttl gone
cli get none
cli lpush key x
seq 1 5000 | sed 's/.*/SET bulk:& value-&/' | cli --pipe | tail -1 | tr ',' '\n'
cli dbsize
(cli subscribe chan > sub &)
subscribed() { [ "$(cli pubsub numsub chan | tail -1)" = 1 ]; }
soon subscribed; cli publish chan message > /dev/null; soon grep message sub; head -6 sub | tail -3
redis-benchmark -p "$port" -n 3000 -c 16 -q -t set,get,incr,lpush,mset > bench 2>&1; echo "benchmark $? $(tr '\r' '\n' < bench | grep -c 'requests per second')"
redis-benchmark -p "$port" -n 20000 -c 64 -P 16 -q -t set,get > bench 2>&1; echo "pipelined $?"
cli bgsave; until [ "$(cli info persistence | tr -d '\r' | grep rdb_bgsave_in_progress)" = rdb_bgsave_in_progress:0 ]; do sleep 0.05; done
cli info persistence | tr -d '\r' | grep rdb_last_bgsave_status
cli bgrewriteaof; until cli info persistence | grep -q aof_rewrite_in_progress:0; do sleep 0.05; done
cli info persistence | tr -d '\r' | grep aof_last_bgrewrite_status
cli shutdown
wait "$pid"; echo "ended with $?"
serve
cli get bulk:4321; cli get counter; cli lrange list 0 -1
cli config get appendonly
finish "$pid"
