# needs: /usr/bin/python3
# quick
# threads, subprocess, an asyncio server with clients, json and other modules, from Debian's python3.
. "$LIB"
for t in basics threads processes sockets; do
    $RUN /usr/bin/python3 "$SCENARIO/$t.py"
    echo "$t: exit $?"
done
echo 'import sys; print(sum(map(int, sys.stdin))); sys.exit(3)' > s.py
seq 1 1000 | $RUN /usr/bin/python3 s.py
echo "exit $?"
