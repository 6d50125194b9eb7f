# needs: git
# quick
# init, commit, log, branch, merge, diff, clone of a local repository, gc and fsck; all object names are compared.
. "$LIB"
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.invalid GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.invalid
export GIT_AUTHOR_DATE='2001-02-03T04:05:06Z' GIT_COMMITTER_DATE='2001-02-03T04:05:06Z' GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat
g() { $RUN git "$@"; }
g init -q -b main repo
cd repo
for i in $(seq 1 30); do echo "content $i" > file$i; done
g add .
g commit -q -m first
g log --format='%H %s'
g checkout -q -b side
echo changed > file3; mkdir sub; echo new > sub/file
g add -A
g commit -q -m side
g checkout -q main
echo other > file5
g commit -q -a -m main
g merge -q -m merged side
g log --oneline --graph | cat
g diff HEAD~1 --stat
g status --short
g rev-parse 'HEAD^{tree}'
cd ..
g clone -q repo copy
g -C copy log -1 --format=%H
g -C copy fsck 2>&1 | head -3
g -C repo gc -q
g -C repo count-objects -v | grep -E '^(count|in-pack|packs)'
g -C repo archive HEAD | tar -t | wc -l
g -C copy blame -s file5 | cat
g -C copy grep -n changed
g clone -q "file://$PWD/repo" over
g -C over log --format=%h | wc -l
g -C repo nosuchcommand 2> /dev/null
echo "exit $?"
