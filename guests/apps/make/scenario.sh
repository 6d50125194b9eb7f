# needs: make gcc
# quick
. "$LIB"
cp "$SCENARIO/Makefile" .
for i in 1 2 3 4 5 6; do echo "int f$i(void) { return $i; }" > f$i.c; done
{ for i in 1 2 3 4 5 6; do echo "int f$i(void);"; done; echo '#include <stdio.h>'; echo 'int main(void) { printf("%d\n", f1()+f2()+f3()+f4()+f5()+f6()); return 0; }'; } > main.c
$RUN make -s -j2 2>&1 | sort
$RUN ./prog
$RUN make -q; echo "up to date: $?"
touch f3.c
$RUN make -n 2>&1
$RUN make nosuch 2> /dev/null; echo "exit $?"
$RUN make -s fails 2> /dev/null; echo "exit $?"
$RUN make -s clean; ls
