# A terminal to type on: tmux with a socket of its own in the current directory.
mux() { tmux -S "$PWD/tmux.sock" -f /dev/null "$@"; }
screen_start() { # WIDTH HEIGHT COMMAND
    mux new-session -d -x "$1" -y "$2" "cd $PWD && $3; echo \$? > $PWD/status" || exit 1
    started+=("$(mux display-message -p '#{pid}')")
    mux set-option -g status off
    mux resize-window -x "$1" -y "$2"
}
keys() { local k; for k in "$@"; do mux send-keys -- "$k"; sleep 0.03; done; }
screen() { mux capture-pane -p; }
show_screen() { screen | sed '/^$/d; s/ *$//'; }
# until_screen WHAT COMMAND...: until the command is content with the screen that it reads.
until_screen() {
    local what=$1 end=$((SECONDS + 60))
    shift
    while [ $SECONDS -lt $end ]; do
        screen | "$@" > /dev/null && return 0
        sleep 0.05
    done
    echo "never saw $what on:"
    screen
    exit 1
}
lines_with() { [ "$(grep -c -- "$2")" -ge "$1" ]; } # N PATTERN
lines_without() { ! grep -q -- "$1"; }
last_line() { [ "$(sed '/^ *$/d; s/ *$//' | tail -1)" = "$1" ]; }
only_line() { [ "$(sed '/^ *$/d; s/ *$//')" = "$1" ]; }
await() { until_screen "$1" lines_with "${2:-1}" "$1"; } # PATTERN [N]: until N lines of the screen match
await_not() { until_screen "no $1" lines_without "$1"; } # PATTERN: until none does
# await_last TEXT: until the last line is this. What is typed before a shell shows its prompt appears where it is typed, and again behind the prompt.
await_last() { until_screen "$1 last" last_line "$1"; }
await_only() { until_screen "$1 alone" only_line "$1"; } # TEXT: until there is nothing else
screen_end() { # waits for the command's end and tells its status
    local end=$((SECONDS + 60))
    while [ $SECONDS -lt $end ]; do [ -s status ] && break; sleep 0.05; done
    echo "status $(cat status 2>/dev/null)"
    mux kill-server 2> /dev/null
    return 0
}
