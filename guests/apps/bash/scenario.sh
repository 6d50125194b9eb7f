# needs: bash
# quick
# A bash script with all that scripts do, and pipelines of programs.
. "$LIB"
$RUN bash "$SCENARIO/script.sh" one "two words"
echo "exit $?"
$RUN bash -c 'echo from $0 $#' zero 1 2
$RUN bash -c 'for i in {1..50}; do /bin/true || echo bad; done; echo fifty'
echo 'read a; echo "got $a"; exit 5' > s
echo input | $RUN bash s
echo "exit $?"
$RUN bash -c 'kill -TERM $$; sleep 5'
echo "exit $?"
