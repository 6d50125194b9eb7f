# needs: tmux bash
# timeout: 300
# Interactive bash on a terminal: editing, Ctrl-C, Ctrl-Z and fg, window size, job control; the screen is compared.
. "$LIB"
. "$SCENARIO/../tmux.sh"
screen_start 80 24 "$RUN bash --norc --noprofile -i"
await 'bash-5'
keys "PS1='ready> '" Enter
await_last 'ready>'
keys "clear" Enter
await_only 'ready>'
keys "echo one two" Left Left Left "X" Enter
await '^one Xtwo'
await_last 'ready>'
keys "stty size" Enter
await '^24 80'
await_last 'ready>'
# Said by who has the terminal: bash itself may not be interrupted between the two.
keys "sh -c \"echo be''gun; exec sleep 100\"" Enter
await '^begun'
keys C-c
await '\^C'
await_last 'ready>'
keys "echo after interrupt" Enter
await '^after interrupt'
await_last 'ready>'
keys "echo be''gun; cat" Enter
await '^begun' 2
keys "typed" Enter
await '^typed$' 2 # the terminal's echo, and cat
keys C-z
await 'Stopped'
await_last 'ready>'
keys "jobs" Enter
await 'Stopped.*cat' 2
await_last 'ready>'
keys "fg" Enter
await '^cat$'
keys "again" Enter
await '^again$' 2
keys C-d
await_last 'ready>'
keys "tty | sed s/[0-9]*//g" Enter
await '/dev/pts'
await_last 'ready>'
keys "for i in 1 2 3; do echo n\$i; done | tac" Enter
await '^n1'
await_last 'ready>'
show_screen
keys "exit 7" Enter
screen_end
