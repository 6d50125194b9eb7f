# needs: musl-gcc
# quick
# A static musl program of its own size: word counts over threads, a child, files, a socket.
. "$LIB"
musl-gcc -O2 -static -pthread -o words "$SCENARIO/words.c" || exit 1
for i in 1 2 3 4; do seq 1 20000 | sed "s/\$/ word$i/" > f$i; done
$RUN ./words f1 f2 f3 f4
echo "exit $?"
$RUN ./words none; echo "exit $?"
cat f1 | $RUN ./words -; echo "exit $?"
