# needs: gcc
# timeout: 300
# Compiling and linking: objects and programs are bit-identical to the native ones, and the programs run.
. "$LIB"
cp "$SCENARIO"/*.c "$SCENARIO"/*.h .
$RUN gcc -O2 -c a.c -o a.o
$RUN gcc -O2 -c b.c -o b.o
$RUN gcc a.o b.o -lm -o dynamic
$RUN gcc -static a.o b.o -lm -o static
$RUN gcc -O0 -g -fdebug-prefix-map="$PWD"=. -S a.c -o a.s
$RUN ar rcsD lib.a a.o
$RUN gcc -E b.c | grep -v '^#' | sha256sum
sha256sum a.o b.o dynamic static a.s lib.a
$RUN ./dynamic
$RUN ./static
$RUN nm b.o | sort
$RUN gcc -c broken.c 2> err
echo "exit $? $(grep -c error err)"
$RUN strip static && sha256sum static
