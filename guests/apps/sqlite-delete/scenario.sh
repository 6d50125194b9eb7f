# needs: sqlite3
# timeout: 300
# 100,000 inserts in transactions, then single-row transactions and queries, journal mode DELETE.
. "$LIB"
$RUN sqlite3 t.db < "$SCENARIO/../sqlite-sql/delete.sql"
echo "exit $?"
$RUN sqlite3 t.db < "$SCENARIO/../sqlite-sql/inserts.sql"
echo "exit $?"
for i in 1 2 3 4 5; do $RUN sqlite3 t.db "INSERT INTO t VALUES (NULL, 'extra $i', $i); SELECT changes();"; done
$RUN sqlite3 t.db "SELECT count(*), sum(v), max(length(name)) FROM t; PRAGMA integrity_check; PRAGMA journal_mode;"
$RUN sqlite3 t.db .dump | sha256sum
$RUN sqlite3 none/x.db "SELECT 1" 2> /dev/null; echo "exit $?"
# two processes: one holds the write lock, the other waits for it
$RUN bash -c '
    { echo "BEGIN IMMEDIATE; INSERT INTO t VALUES (NULL, \"held\", 0);"; echo ".once has"; echo "SELECT 1;"; sleep 0.4; echo "COMMIT;"; } | sqlite3 t.db &
    until [ -s has ]; do sleep 0.02; done
    sqlite3 -cmd ".timeout 20000" t.db "INSERT INTO t VALUES (NULL, \"waited\", 0);"
    wait'
$RUN sqlite3 t.db "SELECT count(*) FROM t WHERE name IN ('held', 'waited')"
ls t.db* | head -1
