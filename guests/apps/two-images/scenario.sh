# needs: sqlite3 flock
# quick
# Two programs started apart that share a file of the host: record locks and flock hold between them.
. "$LIB"
sqlite3 t.db "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)"
{ echo "BEGIN IMMEDIATE; INSERT INTO t (name) VALUES ('held');"; sleep 1; echo "COMMIT;"; } | $RUN sqlite3 t.db &
holder=$!
until [ -e t.db-journal ]; do sleep 0.02; done
sqlite3 -cmd '.timeout 0' t.db "INSERT INTO t (name) VALUES ('native in between')" 2>&1 | grep -c locked
$RUN sqlite3 -cmd '.timeout 20000' t.db "INSERT INTO t (name) VALUES ('waited')"
wait $holder
$RUN sqlite3 t.db "SELECT name FROM t ORDER BY id"
touch lock
$RUN flock lock bash -c 'echo has it > holding; sleep 0.5; echo released' &
until [ -s holding ]; do sleep 0.02; done
flock -n lock true; echo "native try: $?"
$RUN flock lock echo "after the first"
wait
