# needs: bash
# timeout: 300
# 1,000 short processes in a row, 1,000 at once as a pipeline, 1,000 that are waited for together, and 1,000 by xargs.
. "$(dirname "$LIB")/lib-image.sh"
cd "$dir"
n=0; for i in {1..1000}; do /bin/true && n=$((n + 1)); done; echo $n
line='cat < in'; for i in {1..999}; do line+=' | cat'; done
seq 1000 | sha256sum > want; seq 1000 > in
eval "$line" | sha256sum | cmp - want && echo "all came through"
for i in {1..1000}; do (exit $((i % 3 != 0))) & done; wait; echo "1000 waited"
seq 1000 | xargs -P 50 -n 1 sh -c 'echo "$0"' | sort -n | sha256sum | cmp - want && echo "xargs ran them all"
