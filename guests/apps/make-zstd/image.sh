# needs: make gcc ar
# timeout: 300
# zstd's C code (of the crate that ftvm itself is built with) by `make -j4`: objects are the same to the bit, the library works;
# an interrupted make leaves no half-made file, and goes on.
. "$(dirname "$LIB")/lib-image.sh"
source=$(ls -d "$CRATES"/*/zstd-sys-*/zstd/lib | sort -V | tail -1)
[ -d "$source" ] || { echo "no source of zstd in $CRATES"; exit 1; }
cd "$dir"
cp -r "$source" lib
cp "$SCENARIO"/Makefile "$SCENARIO"/try.c .
make -s -j4 try > made 2>&1; echo "make $?"
wc -l < made
sha256sum lib/*/*.o | sha256sum
ar t libzstd.a | wc -l
./try < lib/compress/zstd_compress.c
make -q try; echo "up to date $?"
touch lib/compress/hist.c lib/common/bits.h
make -s -j4 try | sort
rm -f lib/compress/*.o
env --default-signal=INT setsid make -s -j4 held > made 2>&1 & maker=$!
soon grep -q compress made
kill -INT -- -$maker; wait $maker; echo "interrupted $?"
make -s -j4 -l 1000 --output-sync=target try > made 2>&1; echo "make $?"
./try < lib/compress/zstd_compress.c
make -s -k -j4 bad 2> err; echo "bad $? $(grep -c Error err)"
