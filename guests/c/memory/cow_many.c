// modes: static dynamic musl
// Copy on write through several generations, with writes by parent and children in turn.
#include "../common.h"

static char data[64][4096];

int main(void) {
    for (int i = 0; i < 64; i++)
        data[i][0] = (char)i;
    int depth = 0, pipefd[2];
    MUST(pipe(pipefd) == 0);
    while (depth < 5) {
        pid_t p = fork();
        MUST(p >= 0);
        if (p) {
            data[depth][0] = 100; /* after the fork: the child must not see it */
            int st;
            MUST(waitpid(p, &st, 0) == p && WEXITSTATUS(st) == 0);
            if (depth == 0)
                break;
            _exit(0);
        }
        depth++;
        for (int i = 0; i < 64; i++)
            MUST(data[i][0] == (i < depth - 1 ? -1 : i) || (i < depth - 1 && data[i][0] == -1));
        data[depth - 1][0] = -1;
        char line[64];
        int n = snprintf(line, sizeof line, "generation %d sees its own\n", depth);
        MUST(write(pipefd[1], line, n) == n);
        if (depth == 5)
            _exit(0);
    }
    close(pipefd[1]);
    char buf[512];
    ssize_t n, total = 0;
    while ((n = read(pipefd[0], buf + total, sizeof buf - total)) > 0)
        total += n;
    buf[total] = 0;
    fputs(buf, stdout);
    return done();
}
