# needs: /usr/lib/postgresql/15/bin/postgres setpriv
# timeout: 300
# PostgreSQL on the system under test, its clients on the host: they meet at its UNIX socket in the working directory, and
# peer authentication asks who the client is.
. "$LIB"
export PATH=/usr/lib/postgresql/15/bin:$PATH
plain=
user=$(id -un)
if [ "$(id -u)" = 0 ]; then
    plain="setpriv --reuid 65534 --regid 65534 --clear-groups"
    user=$(id -un 65534)
    chown 65534:65534 .
fi
$plain initdb -D data -A peer -U "$user" --no-sync > initdb.log 2>&1; echo "initdb $?"
printf '%s\n' "unix_socket_directories = '$PWD'" "listen_addresses = ''" | $plain tee -a data/postgresql.conf > /dev/null
ask() { $plain "$1" -h "$PWD" -U "$user" "${@:2}"; }
start $RUN $plain postgres -D data > log 2>&1
soon ask psql -At postgres -c 'select 42'
ask psql -At postgres -c 'select 42'
ask psql -At postgres -c 'create table t as select generate_series(1, 100000) n' -c 'select sum(n) from t' -c 'table t' | tail -1
ask psql -At postgres -c 'select sum(n) from t'
ask pgbench -i -q postgres > init.log 2>&1; echo "pgbench -i $?"
ask pgbench -n -c 4 -t 50 postgres 2>&1 | grep -E 'actually|failed'
$plain psql -h "$PWD" -U other -At postgres -c 'select 1' 2>&1 | grep -o 'Peer authentication failed for user "other"'
finish "$pid" INT
