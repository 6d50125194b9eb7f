# needs: tmux bash
# timeout: 60
# Interactive bash on a terminal: editing, Ctrl-C, Ctrl-Z and fg, window size, job control; the screen is compared.
. "$LIB"
. "$SCENARIO/../tmux.sh"
screen_start 80 24 "$RUN bash --norc --noprofile -i"
await 'bash-5'
keys "PS1='ready> '" Enter
await '^ready>'
keys "clear" Enter
await '^ready>'
keys "echo one two" Left Left Left "X" Enter
await 'one Xtwo\|one tXwo\|oneX'
keys "stty size" Enter
await '24 80'
keys "sleep 100" Enter
sleep 0.3
keys C-c
await '\^C'
keys "echo after interrupt" Enter
await '^after interrupt'
keys "cat" Enter
sleep 0.2
keys "typed" Enter
await '^typed$'
keys C-z
await 'Stopped'
keys "jobs" Enter
await 'Stopped.*cat'
keys "fg" Enter
sleep 0.2
keys "again" Enter
await '^again$'
keys C-d
await 'ready>'
keys "tty | sed s/[0-9]*//g" Enter
await '/dev/pts'
keys "for i in 1 2 3; do echo n\$i; done | tac" Enter
await '^n1'
show_screen
keys "exit 7" Enter
screen_end
