// modes: static dynamic musl
// fork: two returns, copied memory, shared files, own pid, exit codes, many children.
#include "../common.h"

static int global = 1;

int main(void) {
    int local = 2;
    pid_t parent = getpid();
    pid_t p = fork();
    if (p == 0) {
        CHECK(getpid() != parent && getppid() == parent);
        CHECK(global == 1 && local == 2);
        global = local = 50;
        child_exit(7);
    }
    wait_show("child", p);
    CHECK(global == 1 && local == 2);
    pid_t kids[20];
    for (int i = 0; i < 20; i++)
        if ((kids[i] = fork()) == 0)
            _exit(i * 10);
    int sum = 0;
    for (int i = 0; i < 20; i++) {
        int st;
        MUST(waitpid(kids[i], &st, 0) == kids[i] && WIFEXITED(st));
        sum += WEXITSTATUS(st);
    }
    SHOW(sum);
    SHOW(waitpid(-1, NULL, 0));
    /* twenty generations deep */
    int depth[2];
    MUST(pipe(depth) == 0);
    p = fork();
    if (p == 0) {
        for (int i = 0; i < 20; i++) {
            pid_t c = fork();
            if (c) {
                int st;
                waitpid(c, &st, 0);
                _exit(WEXITSTATUS(st) + 1);
            }
        }
        _exit(100);
    }
    wait_show("twenty deep", p);
    for (int i = 0; i < 100; i++) {
        p = fork();
        if (p == 0)
            _exit(0);
        MUST(waitpid(p, NULL, 0) == p);
    }
    puts("a hundred in turn");
    return done();
}
