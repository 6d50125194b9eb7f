# needs: /usr/lib/postgresql/15/bin/postgres setpriv
# timeout: 400
# PostgreSQL's other uses of processes: parallel workers in both kinds of shared memory, lock waits and deadlocks, timeouts and
# cancels by signals, notifications, a streaming standby that is promoted, dumps by several jobs, death of the postmaster.
. "$(dirname "$LIB")/lib-image.sh"
export PATH=/usr/lib/postgresql/15/bin:$PATH PGCTLTIMEOUT=180

q() { psql -AtX "$@" 2>&1; }
# waiting N: N backends wait for locks.
waiting() { [ "$(q -c "select count(*) from pg_stat_activity where wait_event_type = 'Lock'")" = "$1" ]; }
same_lsn() { [ "$(q -p 5501 -c 'select pg_last_wal_replay_lsn()')" = "$(q -c 'select pg_current_wal_lsn()')" ]; }
reports() { grep -q "$1" "$2"; }
gone() { ! kill -0 "$1"; }
begin() { pg_ctl -D "$1" -l "$1.log" -w start > ctl.log 2>&1; echo "start $1 $?"; }
end() { pg_ctl -D "$1" -m "$2" -w stop > ctl.log 2>&1; echo "stop $1 $?"; }

parallel() {
    q -c "set max_parallel_workers_per_gather = 2" -c "set parallel_setup_cost = 0" -c "set parallel_tuple_cost = 0" \
        -c "set min_parallel_table_scan_size = 0" \
        -c "explain (analyze, costs off, timing off, summary off) select count(*) from big" \
        -c "select count(*), sum(n), max(length(t)) from big" \
        -c "select count(*) from big a join big b on a.n = b.n where a.n % 3 = 0" | grep -vE '^SET|Sort Method|rows=[0-9]+ loops=3'
    q -c 'set maintenance_work_mem = "64MB"' -c 'set min_parallel_table_scan_size = 0' -c 'create index big_t on big (t, n)' \
        -c 'drop index big_t' -c 'vacuum (parallel 2) big'
}
work() {
    export PGHOST=$dir PGUSER=pg PGDATABASE=postgres PGPORT=5500
    initdb -D data -A trust -U pg --no-sync > initdb.log 2>&1; echo "initdb $?"
    printf '%s\n' "unix_socket_directories = '$dir'" "listen_addresses = ''" "port = 5500" "max_prepared_transactions = 4" \
        "deadlock_timeout = 50ms" "fsync = off" "restart_after_crash = on" "autovacuum_naptime = 1s" >> data/postgresql.conf
    begin data
    q -c "create table big as select n, md5(n::text) as t from generate_series(1, 60000) n" -c 'analyze big'
    echo "-- parallel workers, POSIX shared memory"
    parallel
    for kind in sysv mmap; do
        echo "-- $kind"
        end data fast
        echo "dynamic_shared_memory_type = $kind" >> data/postgresql.conf
        [ $kind = sysv ] && echo "shared_memory_type = sysv" >> data/postgresql.conf
        begin data
        parallel
    done
    echo "-- lock waits and a deadlock"
    q -c 'create table two (id int primary key, v int)' -c 'insert into two values (1, 0), (2, 0)'
    mkfifo a b
    psql -AtX < a > a.out 2>&1 & exec 7> a
    psql -AtX < b > b.out 2>&1 & exec 8> b
    echo 'begin; update two set v = v + 1 where id = 1;' >&7; soon reports UPDATE a.out
    echo 'begin; update two set v = v + 1 where id = 2;' >&8; soon reports UPDATE b.out
    echo 'set deadlock_timeout = 600000; update two set v = v + 10 where id = 2;' >&7; soon waiting 1
    echo 'update two set v = v + 10 where id = 1;' >&8; soon reports ERROR b.out
    echo 'commit;' >&7; exec 7>&- 8>&-; wait
    grep -E 'UPDATE|COMMIT' a.out; grep ERROR b.out
    q -c 'select * from two order by id'
    echo "-- timeouts and cancels"
    q -c "set statement_timeout = 50" -c "select pg_sleep(100)"
    q -c "select pg_sleep(100)" > sleeper & sleeper=$!
    until [ "$(q -c "select pg_cancel_backend(pid) from pg_stat_activity where query = 'select pg_sleep(100)'")" = t ]; do sleep 0.02; done
    wait $sleeper; cat sleeper
    psql -AtX -c 'select pg_sleep(100)' > sleeper 2>&1 & sleeper=$!
    until [ "$(q -c "select count(*) from pg_stat_activity where query = 'select pg_sleep(100)'")" = 1 ]; do sleep 0.02; done
    kill -INT $sleeper; wait $sleeper; cat sleeper
    echo "-- notifications"
    mkfifo c
    psql -AtX < c > c.out 2>&1 & exec 7> c
    echo 'listen news;' >&7; soon reports LISTEN c.out
    q -c "notify news, 'of the day'" -c "begin" -c "notify news, 'one'" -c "notify news, 'two'" -c "commit" > /dev/null
    echo 'select 1;' >&7; exec 7>&-; wait
    sed 's/PID [0-9]*/PID N/' c.out
    echo "-- prepared transactions outlive a crash"
    q -c begin -c "update two set v = 100 where id = 1" -c "prepare transaction 'later'" -c 'checkpoint' -c 'insert into two values (3, 3)'
    end data immediate
    begin data
    grep -c 'database system was not properly shut down' data.log
    q -c 'select gid from pg_prepared_xacts' -c "commit prepared 'later'" -c 'select * from two order by id'
    echo "-- dump and restore by jobs"
    pg_dump -Fd -j 2 -f dump && createdb copy && pg_restore -j 2 -d copy dump; echo $?
    q copy -c 'select count(*), sum(n) from big' -c 'select sum(v) from two'
    pg_dump -t two --data-only | psql -AtX copy 2>&1 | grep -c ERROR
    echo "-- a standby follows and is promoted"
    pg_basebackup -D standby -R -X stream -c fast; echo "base backup $?"
    printf '%s\n' "port = 5501" >> standby/postgresql.conf
    begin standby
    q -c 'insert into two select n, n from generate_series(10, 1000) n'
    soon same_lsn; q -p 5501 -c 'select count(*), sum(v) from two' -c 'select pg_is_in_recovery()'
    q -p 5501 -c 'insert into two values (5, 5)'
    end data immediate
    pg_ctl -D standby -w promote > ctl.log 2>&1; echo "promote $?"
    q -p 5501 -c 'insert into two values (5, 5)' -c 'select count(*), sum(v) from two'
    end standby fast
    echo "-- the postmaster is killed"
    begin data
    q -c 'select pg_sleep(100)' > orphan & orphan=$!
    until [ "$(q -c "select count(*) from pg_stat_activity where query = 'select pg_sleep(100)'")" = 1 ]; do sleep 0.02; done
    postmaster=$(head -1 data/postmaster.pid)
    kill -KILL "$postmaster"; soon gone "$postmaster"; wait $orphan; sed 's/.*server closed/server closed/' orphan
    until pg_ctl -D data -l data.log -w start > ctl.log 2>&1; do sleep 0.05; done # while old backends hold the memory
    q -c 'select count(*) from two'
    end data smart
    echo "$(grep -cE 'PANIC|Assert' data.log standby.log | tr '\n' ' ') panics"
}
functions+=(q waiting same_lsn reports gone begin end parallel)
as_plain work
