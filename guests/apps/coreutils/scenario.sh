# needs: sha256sum
# quick
# Debian's coreutils one by one.
. "$LIB"
$RUN seq 1 1000 > numbers
$RUN sort -rn numbers | $RUN head -3
$RUN sort -R --random-source=numbers numbers | $RUN sort -n | $RUN cmp - numbers && echo sorted
$RUN wc numbers
$RUN tac numbers | $RUN tail -n 2
$RUN sha256sum numbers
$RUN md5sum numbers
$RUN cksum numbers
$RUN base64 -w 0 numbers | $RUN md5sum
$RUN split -l 300 numbers part.
$RUN ls part.*
$RUN cat part.* | $RUN cmp - numbers && echo whole
$RUN mkdir -p d/e/f
$RUN cp -a numbers d/e/f/copy
$RUN touch -d '2001-02-03 04:05:06 UTC' d/e/f/copy
$RUN stat -c '%n %s %a %F %Y' d/e/f/copy
$RUN ln d/e/f/copy d/hard
$RUN ln -s e/f/copy d/soft
$RUN readlink d/soft
$RUN stat -c '%h' d/hard
$RUN mv d/e d/moved
$RUN ls -R d
$RUN ls -l --time-style=+%s d/moved/f/copy | $RUN cut -d' ' -f1,5-7
$RUN chmod 640 d/hard
$RUN stat -c %A d/hard
$RUN cp -r d d2
$RUN du --apparent-size -b d2/moved/f/copy
$RUN rm -r d d2
$RUN test -e d; echo "gone: $?"
$RUN date -u -d @86400 +%F
$RUN env -i A=1 B=2 env
$RUN printf '%s-%05d-%x\n' text 42 255
$RUN tr a-z A-Z <<< shout
$RUN paste -d, part.aa part.ab | $RUN head -2
echo "1 a" > j1; echo "1 b" > j2; $RUN join j1 j2
$RUN comm -12 part.aa numbers | $RUN wc -l
printf "a\na\nb\n" | $RUN uniq -c
$RUN fold -w 10 <<< "the quick brown fox"
$RUN factor 1234567890
$RUN timeout 0.05 sleep 10; echo "timeout: $?"
$RUN tee copy < numbers | $RUN md5sum
$RUN cmp copy numbers && echo equal
$RUN truncate -s 5000 copy
$RUN wc -c copy
$RUN dd if=numbers of=dd.out bs=64 skip=2 count=4 2> /dev/null
$RUN od -c dd.out | $RUN head -3
$RUN mktemp -u XXXX | $RUN wc -c
$RUN expr length hello
$RUN false; echo "false: $?"
$RUN cat none; echo "cat: $?"
$RUN id -u
$RUN pwd | $RUN sed 's:.*/::'
$RUN yes | $RUN head -100000 | $RUN md5sum
