# needs: memcached /usr/bin/python3
# memcached -t 4 under load by four client threads, every answer checked.
. "$LIB"
port=$(free_port)
user=()
[ "$(id -u)" != 0 ] || user=(-u root)
start $RUN memcached -t 4 -l 127.0.0.1 -p "$port" -m 64 "${user[@]}"
up "$port" || exit 1
/usr/bin/python3 "$SCENARIO/load.py" "$port"
finish "$pid"
