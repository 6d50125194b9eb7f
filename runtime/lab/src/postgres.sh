# A database of its own under /tmp, as nobody (PostgreSQL refuses root), with a table of registers; then its server.
set -eu
if [ "$(id -u)" = 0 ]; then exec setpriv --reuid 65534 --regid 65534 --clear-groups bash -c "$(cat "$0")"; fi
export PATH=/usr/lib/postgresql/15/bin:$PATH LC_ALL=C
data=$(mktemp -d)/data
initdb -D "$data" -A trust -U pg --no-sync > /dev/null
echo "host all all 0.0.0.0/0 trust" >> "$data/pg_hba.conf"
echo "create table r (k text primary key, v bigint)" | postgres --single -D "$data" postgres > /dev/null
exec postgres -D "$data" -h 0.0.0.0 -k "${data%/*}"
