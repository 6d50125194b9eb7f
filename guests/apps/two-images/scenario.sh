# needs: sqlite3 flock python3
# quick
# Two programs started apart that share a file of the host: record locks and flock hold between them.
. "$LIB"
sqlite3 t.db "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)"
# Until the others have tried, and then long enough for one to wait.
until_tried() { until [ -e tried ]; do sleep 0.02; done; sleep 0.5; rm tried; }
{ echo "BEGIN IMMEDIATE; INSERT INTO t (name) VALUES ('held');"; until_tried; echo "COMMIT;"; } | $RUN sqlite3 t.db &
holder=$!
until [ -e t.db-journal ]; do sleep 0.02; done
sqlite3 -cmd '.timeout 0' t.db "INSERT INTO t (name) VALUES ('native in between')" 2>&1 | grep -c locked
touch tried
$RUN sqlite3 -cmd '.timeout 20000' t.db "INSERT INTO t (name) VALUES ('waited')"
wait $holder
$RUN sqlite3 t.db "SELECT name FROM t ORDER BY id"
touch lock
$RUN flock lock bash -c 'echo has it > holding; until [ -e tried ]; do sleep 0.02; done; sleep 0.5; echo released' &
until [ -s holding ]; do sleep 0.02; done
flock -n lock true; echo "native try: $?"
touch tried
$RUN flock lock echo "after the first"
wait
# Ranges: what is held, what is let go in parts, what a waiter gets, and that the end of an image lets go.
cat > ranges.py <<'END'
import fcntl, os, sys, time
f = open("ranges", "r+b")
def have(start, length, kind=fcntl.LOCK_EX):
    try:
        fcntl.lockf(f, kind | fcntl.LOCK_NB, length, start)
        fcntl.lockf(f, fcntl.LOCK_UN, length, start)
        return "free"
    except OSError as e:
        return "taken"
if sys.argv[1] == "hold":
    fcntl.lockf(f, fcntl.LOCK_EX, 30, 10)
    fcntl.lockf(f, fcntl.LOCK_UN, 10, 20)
    fcntl.lockf(f, fcntl.LOCK_SH, 10, 30)
    open("held", "w").write("x")
    while not os.path.exists("go"): time.sleep(0.01)
elif sys.argv[1] == "wait":
    fcntl.lockf(f, fcntl.LOCK_EX, 10, 10)
    print("got it once the holder had ended:", os.path.exists("go"))
else:
    print(have(0, 10), have(10, 10), have(19, 2), have(20, 10), have(30, 10), have(30, 10, fcntl.LOCK_SH), have(40, 0))
END
sides=("$RUN" "" "$RUN")
for i in 0 1; do
    rm -f held go; : > ranges
    ${sides[i]} python3 ranges.py hold &
    until [ -s held ]; do sleep 0.02; done
    ${sides[i+1]} python3 ranges.py try
    ${sides[i+1]} python3 ranges.py wait &
    sleep 0.3; touch go
    wait
    ${sides[i+1]} python3 ranges.py try
done
