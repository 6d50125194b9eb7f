# needs: gdb gcc
# timeout: 300
# gdb runs a program: breakpoints, steps, a function called by hand, threads, a crash, and a running process attached to.
. "$LIB"
plain() { sed -E 's/ +/ /g; s/0x[0-9a-f]+/PTR/g; s/(LWP|process) [0-9.]+/\1 N/g; s/^warning:.*//' | grep -v '^$\|libthread_db\|debuginfo\|^\[New\|exited\]$\|^\[Switching'; }
gcc -g -O0 -pthread -o prog "$SCENARIO/prog.c" || exit 1
debug() { $RUN gdb -nx -q -batch -iex 'set debuginfod enabled off' "$@" 2>&1 | plain; }
debug -ex 'break work' -ex run -ex bt -ex 'p n' -ex 'p twice(21)' -ex next -ex stepi -ex finish -ex 'delete' -ex c --args ./prog good
debug -ex run -ex bt -ex 'p *here' -ex 'info threads' --args ./prog crash
debug -ex 'handle SIGUSR1 nostop print pass' -ex 'catch syscall getppid' -ex run -ex 'delete' -ex c --args ./prog signal
debug -ex 'break work' -ex run -ex 'watch count' -ex c --args ./prog good
debug -ex 'set detach-on-fork off' -ex 'catch fork' -ex run -ex 'kill inferiors 1' --args ./prog fork
