// modes: static dynamic musl
// Stopping and continuing: WUNTRACED, WCONTINUED, SIGCHLD codes, SIGKILL of a stopped process, pending stops.
#include "../common.h"

static volatile int codes[8], n;
static void on_chld(int s, siginfo_t *i, void *u) {
    (void)s, (void)u;
    if (n < 8)
        codes[n++] = i->si_code;
}

int main(void) {
    struct sigaction a = {.sa_sigaction = on_chld, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGCHLD, &a, NULL);
    pid_t p = fork();
    if (p == 0)
        for (;;)
            pause();
    int st;
    const int stops[] = {SIGSTOP, SIGTSTP};
    setpgid(p, p);
    for (int i = 0; i < 1; i++) {
        kill(p, stops[i]);
        MUST(waitpid(p, &st, WUNTRACED) == p);
        show_status("child", st);
        SHOW(waitpid(p, &st, WUNTRACED | WNOHANG)); /* told only once */
        kill(p, SIGCONT);
        MUST(waitpid(p, &st, WCONTINUED) == p);
        show_status("child", st);
        SHOW(waitpid(p, &st, WCONTINUED | WNOHANG));
    }
    kill(p, SIGSTOP);
    MUST(waitpid(p, &st, WUNTRACED) == p);
    kill(p, SIGTERM); /* waits until it is continued */
    SHOW(waitpid(p, &st, WNOHANG));
    kill(p, SIGCONT);
    MUST(waitpid(p, &st, 0) == p);
    show_status("child", st);
    p = fork();
    if (p == 0)
        for (;;)
            pause();
    kill(p, SIGSTOP);
    MUST(waitpid(p, &st, WUNTRACED) == p);
    kill(p, SIGKILL);
    MUST(waitpid(p, &st, 0) == p);
    show_status("child", st);
    bool right = true;
    for (int i = 0; i < n; i++)
        right &= codes[i] == CLD_STOPPED || codes[i] == CLD_CONTINUED || codes[i] == CLD_KILLED;
    CHECK(right);
    CHECK(n >= 4);
    /* A child that stops itself, and SA_NOCLDSTOP. */
    a.sa_flags |= SA_NOCLDSTOP;
    sigaction(SIGCHLD, &a, NULL);
    n = 0;
    p = fork();
    if (p == 0) {
        raise(SIGSTOP);
        _exit(4);
    }
    MUST(waitpid(p, &st, WUNTRACED) == p);
    show_status("child", st);
    SHOW(n);
    kill(p, SIGCONT);
    MUST(waitpid(p, &st, 0) == p);
    show_status("child", st);
    SHOW(n);
    return done();
}
