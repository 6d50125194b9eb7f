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
show_screen() { sleep 0.2; screen | sed '/^$/d; s/ *$//'; }
await() { # PATTERN: until a line of the screen matches
    local i
    for i in $(seq 200); do
        screen | grep -q -- "$1" && return 0
        sleep 0.05
    done
    echo "never saw $1 on:"
    screen
    exit 1
}
screen_end() { # waits for the command's end and tells its status
    local i
    for i in $(seq 200); do [ -s status ] && break; sleep 0.05; done
    echo "status $(cat status 2>/dev/null)"
    mux kill-server 2> /dev/null
    return 0
}
