# needs: git
# timeout: 300
# A history of two hundred commits: gc with threads and background, repack, prune, fsck, after concurrent commits, beside readers; a hook.
. "$(dirname "$LIB")/lib-image.sh"
cd "$dir"
export HOME=$dir GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.invalid GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.invalid
export GIT_AUTHOR_DATE='2001-02-03T04:05:06Z' GIT_COMMITTER_DATE='2001-02-03T04:05:06Z' GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat
git init -q -b main repo && cd repo
git config gc.auto 0
{
    for n in $(seq 200); do
        text=$(seq $n $((n + 200)))
        printf 'commit refs/heads/main\ncommitter C <c@example.invalid> %d +0000\ndata <<E\ncommit %d\nE\nM 644 inline file%d\ndata %d\n%s\n' \
            $((981173106 + n)) "$n" $((n % 20)) $((${#text} + 1)) "$text"
    done
} | git fast-import --quiet; echo "imported $?"
git reset -q --hard
git log --oneline | wc -l; git rev-parse HEAD
git gc -q --aggressive --prune=now; echo "gc $?"
git count-objects -v | grep -E '^(count|in-pack|packs|garbage)'
git fsck --full > fsck 2>&1; echo "fsck $?"
for n in 1 2 3 4 5 6; do git worktree add -q -b side$n ../tree$n; done
for n in 1 2 3 4 5 6; do (cd ../tree$n && for m in $(seq 5); do echo "$n $m" > side$n && git add -A && git commit -q -m "$n-$m"; done) & done; wait
for n in 1 2 3 4; do git log --format=%T --all | sort | sha256sum > trees$n & done # they read what gc moves
git -c pack.threads=4 gc -q; wait; cat trees[1-4] | uniq | wc -l
for n in 1 2 3 4 5 6; do git log --format=%H main..side$n | sha256sum; done
git merge -q -m "all of them" side1 side2 side3 side4 side5 side6; git rev-parse 'HEAD^{tree}'
git gc -q; git fsck --full > fsck 2>&1; echo "fsck $?"
git count-objects -v | grep -E '^(count|garbage)'
cd ..; git clone -q --bare "file://$dir/repo" bare.git; git -C bare.git fsck > fsck 2>&1; echo "fsck $?"
printf '#!/bin/sh\nread old new ref; echo "pushed $ref"\n' > bare.git/hooks/post-receive; chmod +x bare.git/hooks/post-receive
git clone -q bare.git copy
cd copy; echo more > more; git add more; git commit -q -m more; git push -q origin main 2>&1 | sed 's/ *$//'
git config gc.auto 1; git config gc.autoDetach true; seq 600 | while read -r n; do echo "$n" | git hash-object -w --stdin; done | sha256sum
git gc --auto 2>&1 | grep -c background
# It has let go of its lock before it goes into the background, and takes it again there: what shows its end is that of the loose objects
# only the 600 are left that nothing refers to.
packed() { [ "$(git count-objects | cut -d' ' -f1)" = 600 ] && [ ! -e .git/gc.pid ]; }
soon packed; git fsck > fsck 2>&1; echo "fsck $?"
