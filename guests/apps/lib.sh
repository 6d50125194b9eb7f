# Sourced by every scenario. $RUN is the prefix that puts a program on the system under test (empty natively); it is
# used unquoted. $SCENARIO is the scenario's own folder. The current directory is fresh and the scenario's own.
# What goes to stdout is compared with the native run; talk goes to stderr. Only what was started here is killed.
set -u
export LC_ALL=C
started=()

# A free port on 127.0.0.1.
free_port() {
    /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start COMMAND...: in the background, its id in $pid.
start() {
    "$@" &
    pid=$!
    started+=("$pid")
}

# up PORT: waits until somebody listens there; fails when the last started program ends first.
up() {
    local end=$((SECONDS + 90))
    while [ $SECONDS -lt $end ]; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return 0; fi
        kill -0 "$pid" 2>/dev/null || { echo "the server has ended"; return 1; }
        sleep 0.05
    done
    echo "nobody listens"
    return 1
}

# soon COMMAND...: repeats it until it succeeds; after a minute the scenario fails.
soon() {
    local end=$((SECONDS + 60))
    while [ $SECONDS -lt $end ]; do
        if "$@" > /dev/null 2>&1; then return 0; fi
        sleep 0.05
    done
    echo "never: $*"
    exit 1
}

# finish PID [SIGNAL]: ends a started program and tells how it ended.
finish() {
    kill "-${2:-TERM}" "$1" 2>/dev/null
    wait "$1"
    echo "server ended with $?"
}

clean_up() {
    local p
    for p in "${started[@]}"; do kill -KILL "$p" 2>/dev/null; done
}
trap clean_up EXIT
