// modes: static dynamic musl
// vfork: the child runs first in the parent's memory, until exec or exit; a failing exec is seen by the parent.
#include "../common.h"

int main(void) {
    volatile int seen = 0;
    pid_t p = vfork();
    if (p == 0) {
        seen = 1;
        _exit(5);
    }
    SHOW(seen);
    wait_show("child", p);
    p = vfork();
    if (p == 0) {
        execl("/no/such/program", "x", NULL);
        seen = errno;
        _exit(127);
    }
    printf("exec said %s\n", err_name(seen));
    wait_show("child", p);
    p = vfork();
    if (p == 0) {
        execl("/bin/sh", "sh", "-c", "exit 3", NULL);
        _exit(127);
    }
    wait_show("child", p);
    int fds[2];
    MUST(pipe(fds) == 0);
    p = vfork();
    if (p == 0) {
        close(fds[0]); /* descriptors are the child's own */
        dup2(fds[1], 20);
        _exit(0);
    }
    wait_show("child", p);
    SHOW(fcntl(fds[0], F_GETFD));
    SHOW(fcntl(20, F_GETFD));
    for (int i = 0; i < 50; i++) {
        p = vfork();
        if (p == 0)
            _exit(i);
        int st;
        MUST(waitpid(p, &st, 0) == p && WEXITSTATUS(st) == i);
    }
    puts("fifty more");
    return done();
}
