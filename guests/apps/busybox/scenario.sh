# needs: busybox
# quick
# Applets of the static busybox, alone and in its shell's pipelines.
. "$LIB"
$RUN busybox echo hello
$RUN busybox sh -c 'for i in 1 2 3; do echo line $i; done | busybox sort -r | busybox head -2'
$RUN busybox sh <<'SH'
mkdir -p a/b/c
for i in $(busybox seq 1 200); do echo "file $i $((i * i))" > a/b/f$i; done
busybox find a -type f | busybox wc -l
busybox cat a/b/f* | busybox awk '{ s += $3 } END { print s }'
busybox grep -l ' 10000$' a/b/f*
busybox sed -i 's/file/datei/' a/b/f7
busybox cat a/b/f7
busybox tar -cf t.tar a && busybox gzip -9 -n t.tar && busybox gunzip -c t.tar.gz | busybox tar -tf - | busybox wc -l
mkdir x && busybox tar -xzf t.tar.gz -C x && busybox diff -r a x/a && echo same
busybox dd if=/dev/zero bs=1k count=100 2>/dev/null | busybox md5sum
busybox sha256sum a/b/f100
echo one two three | busybox xargs -n1 echo item
busybox expr 6 \* 7
busybox cut -d' ' -f2 a/b/f9
busybox test -d a && echo directory
busybox ls a/b | busybox sort | busybox tail -3
x=$(busybox sleep 0.01; echo slept); echo $x
trap 'echo trapped' USR1; kill -USR1 $$
(exit 3); echo status $?
busybox rm -r a x && busybox ls
SH
echo "exit $?"
$RUN busybox sh -c 'kill -9 $$'
echo "exit $?"
