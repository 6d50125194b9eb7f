# optional: tensorflow/bin/python
# timeout: 300
# A small training, as of MNIST: its loss is another one each time, by random weights and by which thread adds first. A replay
# prints the very digits of its recording: they are output, which it compares. `ci/install --tensorflow` brings it.
. "$LIB"
train() { $RUN "$BUILD_CACHE/tensorflow/bin/python" "$SCENARIO/train.py" 2> err || { cat err >&2; echo "exit $?"; }; }
first=$(train)
second=$(train)
echo "$first" | sed 's/ loss.*//'
echo "$second" | sed 's/ loss.*//'
[ "$first" != "$second" ] && echo "another loss"
echo "$first; $second" >&2
