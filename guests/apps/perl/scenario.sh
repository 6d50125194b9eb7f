# needs: perl
# quick
. "$LIB"
$RUN perl "$SCENARIO/script.pl"
echo "exit $?"
$RUN perl -e 'print join(",", map { $_ * $_ } 1..10), "\n"; exit 4'
echo "exit $?"
