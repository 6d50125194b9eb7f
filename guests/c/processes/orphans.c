// modes: static dynamic musl
// A child whose parent dies gets another; a subreaper takes it; PDEATHSIG tells it.
#include "../common.h"
#include <sys/prctl.h>

int main(void) {
    int p[2];
    char b[64];
    MUST(pipe(p) == 0);
    SHOW(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    int on = 0;
    SHOW(prctl(PR_GET_CHILD_SUBREAPER, &on, 0, 0, 0));
    SHOW(on);
    pid_t me = getpid(), c = fork();
    if (c == 0) {
        pid_t mid = getpid();
        if (fork() == 0) {
            while (getppid() == mid)
                sleep_ms(1);
            (void)!write(p[1], getppid() == me ? "adopted by the subreaper" : "adopted by another", getppid() == me ? 24 : 18);
            _exit(6);
        }
        _exit(5);
    }
    wait_show("middle", c);
    ssize_t n = read(p[0], b, sizeof b);
    printf("%.*s\n", (int)n, b);
    int st;
    MUST(wait(&st) > 0);
    show_status("grandchild", st);
    SHOW(wait(&st));
    SHOW(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0));
    c = fork();
    if (c == 0) {
        int ready[2];
        MUST(pipe(ready) == 0);
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGTERM);
            sigprocmask(SIG_BLOCK, &set, NULL);
            MUST(write(ready[1], "x", 1) == 1);
            int s = sigwaitinfo(&set, NULL);
            (void)!write(p[1], s == SIGTERM ? "told" : "?", 4);
            _exit(0);
        }
        MUST(read(ready[0], b, 1) == 1);
        _exit(0);
    }
    wait_show("parent", c);
    n = read(p[0], b, sizeof b);
    printf("%.*s\n", (int)n, b);
    int sig = -1;
    SHOW(prctl(PR_GET_PDEATHSIG, &sig));
    SHOW(sig);
    SHOW(prctl(PR_SET_PDEATHSIG, 999));
    return done();
}
