shopt -s extglob nullglob
echo "arguments: $# [$1] [$2]"
declare -A map=([a]=1 [b]=2)
list=(x y "z z")
echo "${#list[@]} ${list[2]} ${map[b]} ${list[@]:1}"
f() { local v=$1; ((v > 0)) && { f $((v - 1)); echo -n "$v "; }; return 7; }
f 5; echo "returned $?"
cat <<END | sort | uniq -c | sed 's/ *//'
b
a $((6 * 7))
b
END
diff <(seq 1 5) <(seq 1 6)
x=$(echo outer $(echo inner))
echo "$x"
for i in 1 2 3; do (sleep 0.0$((4 - i)); echo $i > r$i) & done
wait
cat r1 r2 r3
(exit 9) & wait $!; echo "waited $?"
coproc CAT { cat; }
echo through >&"${CAT[1]}"
read -r line <&"${CAT[0]}"; echo "$line"
eval "exec ${CAT[1]}>&-"
wait 2> /dev/null
trap 'echo "on USR1"' USR1
kill -USR1 $$
trap 'echo "on EXIT"' EXIT
set -o pipefail
true | false | true; echo "pipefail $? ${PIPESTATUS[*]}"
exec 5> five; echo to five >&5; exec 5>&-; cat five
while read -r n; do ((sum += n)); done < <(seq 1 100); echo "sum $sum"
[[ abc =~ ^a(.)c$ ]] && echo "match ${BASH_REMATCH[1]}"
printf '%q %s\n' 'a b' "${list[*]^^}"
touch p.a p.b q.a; echo *.a !(p*|[fr]*) [q]*
ulimit -n > /dev/null && echo limited
read -t 0.05 v < <(sleep 1); echo "read timed out: $(($? > 128))"
seq 1 100000 | gzip -c | gunzip -c | tail -1
find . -name 'r?' | sort | xargs cat | tr '\n' ' '; echo
type -t f
set -- a b c; shift; echo "$*"
until ((k++ >= 3)); do echo -n "k$k "; done; echo
select_me=2; case $select_me in 1) echo one ;; 2) echo two ;;& 2) echo again ;; esac
exit 3
