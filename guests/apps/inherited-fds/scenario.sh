# needs: bash
# quick
# Descriptors beyond the standard three reach the program, as process substitution and redirections of a shell expect.
. "$LIB"
$RUN cat <(echo through a substitution) <(echo and another)
$RUN bash -c 'echo to three >&3' 3> three
cat three
$RUN bash -c 'read -r x <&5; echo "five says $x"' 5< <(echo hello)
