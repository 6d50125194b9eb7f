# needs: /usr/lib/postgresql/15/bin/postgres setpriv
# timeout: 300
# quick
# PostgreSQL 15 with default settings: initdb, pgbench with 1 and 8 clients, a backend killed, clean stop and restart.
. "$(dirname "$LIB")/lib-image.sh"
export PATH=/usr/lib/postgresql/15/bin:$PATH PGCTLTIMEOUT=180

bench() { pgbench -n "$@" bench 2>&1 | grep -E 'actually|failed|error|fatal'; }
work() {
    initdb -D data -A trust -U pg --no-sync > initdb.log 2>&1; echo "initdb $?"
    printf '%s\n' "unix_socket_directories = '$dir'" "listen_addresses = ''" >> data/postgresql.conf
    export PGHOST=$dir PGUSER=pg PGDATABASE=postgres
    pg_ctl -D data -l log -w start > ctl.log 2>&1; echo "start $?"
    createdb bench; echo "createdb $?"
    pgbench -i -q bench > init.log 2>&1; echo "pgbench -i $?"
    psql -At bench -c 'select count(*), sum(abalance) from pgbench_accounts'
    bench -c 1 -t 200
    bench -c 8 -t 50
    bench -c 8 -S -t 200
    psql -At bench -c 'select count(*) from pgbench_history' \
        -c 'select (select sum(delta) from pgbench_history) = (select sum(abalance) from pgbench_accounts)' \
        -c 'select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches)'
    psql -At bench -c "select 'pid ' || pg_backend_pid()" -c 'select pg_sleep(600)' > victim 2> victim.err &
    victim=$!
    soon grep -q pid victim && kill -KILL "$(sed -n 's/pid //p' victim)"
    wait $victim; echo "client of the killed backend $?"; cat victim.err
    soon psql -c 'select 1'
    grep -c 'all server processes terminated; reinitializing' log
    psql -At bench -c 'select count(*) from pgbench_history'
    bench -c 2 -t 20
    pg_ctl -D data -m fast -w stop > ctl.log 2>&1; echo "stop $?"
    pg_ctl -D data -l log -w start > ctl.log 2>&1; echo "start $?"
    psql -At bench -c 'select count(*), (select sum(delta) from pgbench_history) = (select sum(tbalance) from pgbench_tellers) from pgbench_history'
    pg_ctl -D data -m smart -w stop > ctl.log 2>&1; echo "stop $?"
    pg_controldata data | grep 'cluster state'
    echo "$(grep -cE 'PANIC|Assert' log) panics"
}
functions+=(bench)
as_plain work
