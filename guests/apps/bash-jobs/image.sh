# needs: bash ps pgrep pkill timeout setsid
# timeout: 300
# quick
# Job control without a terminal, signals to jobs and pipelines, traps, many children.
. "$(dirname "$LIB")/lib-image.sh"
cd "$dir"
# state PID LETTER: what /proc says of it.
state() { [ "$(ps -o stat= -p "$1" | cut -c 1)" = "$2" ]; }
# sleeping N: N children have become sleep.
sleeping() { [ "$(pgrep -c -P $$ -x sleep)" = "$1" ]; }
set -m
echo "-- jobs stop and go on as groups"
{ while :; do sleep 0.01; done; } | cat > /dev/null & job=$!
group=$(ps -o pgid= -p $job | tr -d ' ')
[ "$group" != $$ ] && echo "a group of its own"
# all LETTER: every process of the group is in this state.
all() { ! ps -o stat= -p "$(pgrep -g "$group" | paste -sd,)" | grep -qv "^$1"; }
kill -STOP %1; soon all T; echo "$(jobs -sp | wc -l) stopped"
kill -CONT %1; soon all S; echo "$(jobs -rp | wc -l) running"
kill -TERM %1; wait $job; echo "ended with $?"
sleep 100 & a=$!; sleep 100 & b=$!; soon sleeping 2
kill -INT -- -$a; kill -QUIT -- -$b; wait $a; echo "interrupted $?"; wait $b; echo "quit $?"
(trap 'echo cleaning; exit 3' TERM; echo ready > r1; while :; do sleep 0.01; done) & job=$!
soon test -s r1; kill -TERM -- -$job; wait $job; echo "trapped $?"
bash -c 'kill -STOP $$; echo went on; exit 4' & job=$!; soon state $job T
fg %+ > /dev/null; echo "foreground $?"
sleep 100 & bg %+ 2> /dev/null; disown %+; echo "$(jobs | wc -l) jobs left"; kill $!
set +m
echo "-- wait"
(sleep 0.01; exit 8) & a=$!; (sleep 0.02; exit 9) & b=$!
wait $a; echo "first $?"; wait $b; echo "second $?"; wait $b 2> /dev/null; echo "known $?"
wait 99999 2> /dev/null; echo "unknown $?"
trap 'echo child' CHLD; true; /bin/true; sleep 0 & wait $!; trap - CHLD
echo "-- pipelines"
yes | head -1; echo "${PIPESTATUS[*]}"
seq 100000 | { read -r x; echo "$x"; }; echo "${PIPESTATUS[*]}"
(trap '' PIPE; seq 100000 2> err | true; echo "${PIPESTATUS[0]}"; grep -c 'Broken pipe' err)
bash -c 'kill -KILL $$' | cat; echo "${PIPESTATUS[*]}"
(exec 2> /dev/null; bash -c 'kill -SEGV $$'; echo "segv $?"; bash -c 'kill -ABRT $$'; echo "abort $?")
sleep 100 | sleep 100 | sleep 100 & last=$!; soon sleeping 3
pkill -P $$ -x sleep; wait $last; echo "end of the pipeline $?"
timeout 0.05 sleep 100; echo "timeout $?"; timeout -s KILL 0.05 sleep 100; echo "killed $?"
timeout --preserve-status 100 bash -c 'trap "exit 11" TERM; echo ready > r2; while :; do sleep 0.01; done' & t=$!
soon test -s r2; kill -ALRM $t; wait $t; echo "preserved $?" # as if its time were over, once the trap is set
trap 'echo "alarm"; got=1' USR1; got=0
(sleep 0.05; kill -USR1 $$) & until [ $got = 1 ]; do read -r -t 0.01 x < <(sleep 0.1); done; wait
(trap 'echo "exit trap $?"' EXIT; exit 12); echo $?
nohup bash -c 'kill -HUP $$; echo survived' 2> /dev/null
setsid bash -c 'ps -o sid= -p $$ | tr -d " " | grep -qx $$ && echo "a session of its own"'
mkfifo f; cat f > got & echo "through the fifo" > f; wait; cat got
exec 9> lock; flock 9; (flock -n lock true; echo "locked $?"); (flock 9; echo "shared with a child"); exec 9>&-; flock -n lock echo "free"
seq 20 | xargs -P 4 -n 1 bash -c 'exit $(($0 % 2))'; echo "xargs $?"
for i in {1..200}; do (exit $((i % 3 != 0))) & done; wait; echo "200 waited"
ps -A -o ppid=,stat= | awk -v me=$$ '$1 == me && $2 ~ /^Z/' | wc -l
