# needs: tmux vi
# timeout: 300
# vi on a terminal: insert, delete, undo, search, save; the screen and the file are compared.
. "$LIB"
. "$SCENARIO/../tmux.sh"
printf 'first line\nsecond line\nthird line\n' > file.txt
screen_start 60 12 "$RUN vi -u NONE -N file.txt"
await 'third line'
keys o "inserted text" Escape
await 'inserted'
keys j dd
keys u
keys /third Enter x
keys :%s/line/row/g Enter
await 'row'
keys gg O "top" Escape
await '^top'
await_not 'INSERT'
show_screen
keys :wq Enter
screen_end
cat file.txt
