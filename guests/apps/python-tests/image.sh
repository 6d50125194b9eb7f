# needs: /usr/bin/python3
# timeout: 600
# Debian's tests of its Python (libpython3.11-testsuite): those of processes, signals, terminals, pipes, sockets and files.
. "$(dirname "$LIB")/lib-image.sh"
cd "$dir"
for t in subprocess popen fork1 wait3 wait4 pipes pty select poll epoll posix signal threadsignals mmap selectors; do
    /usr/bin/python3 -m test test_$t >out 2>&1
    echo "test_$t: exit $?"
    grep -E '^(FAIL|ERROR):' out
done
exit 0
