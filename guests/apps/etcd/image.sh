# needs: etcd etcdctl
# timeout: 400
# etcd with a put and get loop; three members whose leader is killed; watches, leases and restart with the data.
. "$(dirname "$LIB")/lib-image.sh"
cd "$dir"
export ETCDCTL_API=3
ports=($(for i in 1 2 3 4 5 6; do free_port; done))
cluster=m0=http://127.0.0.1:${ports[3]},m1=http://127.0.0.1:${ports[4]},m2=http://127.0.0.1:${ports[5]}
client() { echo "http://127.0.0.1:${ports[$1]}"; }
member() {
    etcd --name "m$1" --data-dir "m$1" --listen-client-urls "$(client "$1")" --advertise-client-urls "$(client "$1")" \
        --listen-peer-urls "http://127.0.0.1:${ports[$(($1 + 3))]}" --initial-advertise-peer-urls "http://127.0.0.1:${ports[$(($1 + 3))]}" \
        --initial-cluster "$cluster" --initial-cluster-state new --heartbeat-interval 500 --election-timeout 5000 > "log$1" 2>&1 &
    pids[$1]=$!
}
for n in 0 1 2; do member $n; done
ctl() { etcdctl --endpoints "$(client 0),$(client 1),$(client 2)" --dial-timeout 5s --command-timeout 10s "$@"; }
soon ctl endpoint health
leader() { for n in 0 1 2; do etcdctl --endpoints "$(client $n)" endpoint status 2> /dev/null | grep -q 'true, false' && echo $n; done; }
# A leader that the others have not heard for long is replaced, and what was asked meanwhile is asked again.
written() { ctl put "key$1" "value $1" && [ "$(ctl get "key$1" --print-value-only)" = "value $1" ]; }
for n in $(seq 15); do soon written "$n"; done; ctl get --prefix key --print-value-only | wc -l
ctl watch --prefix w > watched & watcher=$!
soon test "$(ctl put w0 first)" = OK
seen() { ctl put w1 again > /dev/null; grep -q again watched; }
soon seen; kill $watcher; wait $watcher 2> /dev/null
lease=$(ctl lease grant 10 | awk '{ print $2 }'); ctl put leased x --lease="$lease"
expired() { [ -z "$(ctl get leased)" ]; }
soon expired && echo "the lease ended"
printf 'value("key1") = "value 1"\n\nput key1 swapped\n\nput key1 lost\n\n' | ctl txn | head -1; ctl get key1 --print-value-only
old=$(leader); kill -KILL "${pids[$old]}"; wait "${pids[$old]}" 2> /dev/null; echo "leader ended with $?"
soon ctl put after "the leader's death"; ctl get after --print-value-only
member "$old"
back() { [ "$(etcdctl --endpoints "$(client "$old")" get after --print-value-only)" = "the leader's death" ]; }
soon back && echo "it is back"
ctl snapshot save --endpoints "$(client "$old")" snap > /dev/null 2>&1; etcdctl --endpoints "$(client "$old")" snapshot save snap > saved 2>&1; echo "saved $?"
kill -TERM "${pids[@]}"; for p in "${pids[@]}"; do wait "$p"; echo "ended with $?"; done
# With a peer port of its own too: etcd's default one may be another's on this host, and such an etcd ends at once.
peer=http://127.0.0.1:${ports[3]}
itself=(--initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer")
etcdctl snapshot restore snap --data-dir restored "${itself[@]}" > /dev/null 2>&1; echo "restored $?"
etcd --data-dir restored --listen-client-urls "$(client 0)" --advertise-client-urls "$(client 0)" --listen-peer-urls "$peer" "${itself[@]}" > log 2>&1 & p=$!
one() { etcdctl --endpoints "$(client 0)" "$@"; }
answers() { ! kill -0 $p || one endpoint health; }
soon answers; kill -0 $p || tail -n 3 log
one get --prefix key --print-value-only | sort | sha256sum
kill -TERM $p; wait $p; echo "ended with $?"
