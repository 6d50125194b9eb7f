// modes: static dynamic musl
// SIGCHLD: many at once may merge, all are reaped; SIG_IGN and SA_NOCLDWAIT reap by themselves.
#include "../common.h"

static volatile int reaped, hits;
static void handler(int s) {
    (void)s;
    int st, e = errno;
    hits++;
    while (waitpid(-1, &st, WNOHANG) > 0)
        reaped++;
    errno = e;
}

int main(void) {
    signal(SIGCHLD, handler);
    for (int i = 0; i < 30; i++)
        if (fork() == 0)
            _exit(i);
    while (reaped < 30)
        sleep_ms(1);
    SHOW(reaped);
    CHECK(hits >= 1 && hits <= 30);
    SHOW(waitpid(-1, NULL, 0));
    signal(SIGCHLD, SIG_IGN);
    for (int i = 0; i < 3; i++)
        if (fork() == 0)
            _exit(i);
    SHOW(waitpid(-1, NULL, 0)); /* waits for all, then there is none */
    struct sigaction a = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    sigaction(SIGCHLD, &a, NULL);
    if (fork() == 0)
        _exit(1);
    SHOW(wait(NULL));
    a.sa_flags = 0;
    sigaction(SIGCHLD, &a, NULL);
    pid_t p = fork();
    if (p == 0)
        _exit(9);
    wait_show("child", p);
    return done();
}
