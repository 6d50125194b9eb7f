# needs: strace
# quick
# strace of a shell with a pipeline, of an attached process, and its counting mode. Numbers that differ are taken out.
. "$LIB"
plain() { sed -E 's/^\[pid +[0-9]+\] //; s/^[0-9]+ +//; s/0x[0-9a-f]+/PTR/g; s/si_(pid|uid)=[0-9]+/si_\1=N/g' "$@"; }
echo "text of a file" > f
$RUN strace -f -e trace=write,exit_group,chdir,dup2 -o t sh -c 'cd /; echo one; (echo two; exit 3); echo "three" | cat > /dev/null; kill -USR1 $$'
echo "exit $?"
plain t | grep -v '<unfinished\|resumed>' | grep 'one\|two\|chdir\|exit_group(3)\|SIGUSR1'
$RUN strace -e trace=openat,read,write cat f 2> t
grep -c 'read(' t
plain t | grep '"f"\|text of a file\|exited'
$RUN strace -y -e trace=write -e inject=write:error=ENOSPC:when=1 sh -c 'echo x' 2>&1 | grep -c 'ENOSPC.*INJECTED'
$RUN strace -c -f sh -c 'ls / > /dev/null' 2>&1 | grep -c ' execve$'
$RUN sh -c 'exec 3>&1; (while :; do sleep 0.05; done) & p=$!; strace -f -qq -e trace=none -e signal=none -e trace=execve -o a -p $p & s=$!; until grep -q "execve.*sleep" a 2> /dev/null; do sleep 0.05; done; kill $s; wait $s; kill $p; echo attached'
