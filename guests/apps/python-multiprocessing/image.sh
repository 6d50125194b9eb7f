# needs: /usr/bin/python3
# timeout: 300
# quick
# Python's multiprocessing: Pool, Queue, shared_memory, Manager and the rest, with each way to start processes.
. "$(dirname "$LIB")/lib-image.sh"
cp "$SCENARIO"/work.py "$dir"; cd "$dir"
for how in fork spawn forkserver; do
    /usr/bin/python3 work.py $how
    echo "$how: exit $?"
done
exit 0
