# Sourced by every image.sh. All of the script runs on the system under test. What goes to stdout is compared with the
# native run, and must be the same each time; talk goes to stderr. $dir is fresh, outside the working directory (so that
# a snapshot holds what is written there), and goes away at the end.
set -u
export LC_ALL=C
dir=$(mktemp -d)
main=$BASHPID
clean_up() {
    [ $BASHPID = $main ] || return
    local p
    cd /
    # What a script that failed half-way has left; it works in $dir.
    for p in /proc/[0-9]*; do
        case $(readlink "$p/cwd") in "$dir"*) kill -KILL "${p#/proc/}" ;; esac
    done 2> /dev/null
    rm -rf "$dir"
}
trap clean_up EXIT

# A free port on 127.0.0.1.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# as_plain FUNCTION: runs it in $dir, as nobody if this is root, for programs that refuse root.
as_plain() {
    export dir
    export -f "${functions[@]}" "$1"
    if [ "$(id -u)" = 0 ]; then
        chown 65534:65534 "$dir"
        (cd "$dir" && setpriv --reuid 65534 --regid 65534 --clear-groups bash -uc "$1")
    else
        (cd "$dir" && bash -uc "$1")
    fi
}

# soon COMMAND...: repeats it until it succeeds; after a minute the script fails.
soon() {
    # By time and not by tries: a command that takes long would keep the reason back until the runner ends the test.
    local end=$((SECONDS + 60))
    while [ $SECONDS -lt $end ]; do
        if "$@" > /dev/null 2>&1; then return 0; fi
        sleep 0.05
    done
    echo "never: $*"
    exit 1
}
functions=(soon)
