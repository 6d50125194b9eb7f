// modes: static dynamic musl
// Real-time signals are queued, in order within a number and lowest number first, with their values; the queue is limited.
#include "../common.h"

static int seen;
static void handler(int s, siginfo_t *i, void *u) {
    (void)u;
    if (seen++ < 12)
        printf("%s value %d\n", sig_name(s), i->si_value.sival_int);
}

int main(void) {
    sigset_t set;
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigfillset(&a.sa_mask);
    sigemptyset(&set);
    for (int s = 0; s < 3; s++) {
        sigaddset(&set, SIGRTMIN + s);
        sigaction(SIGRTMIN + s, &a, NULL);
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int v = 0; v < 4; v++)
        for (int s = 2; s >= 0; s--)
            MUST(sigqueue(getpid(), SIGRTMIN + s, (union sigval){.sival_int = v * 10 + s}) == 0);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    SHOW(seen);
    seen = 0;
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int v = 0; v < 500; v++)
        MUST(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = v}) == 0);
    for (int v = 0; v < 500; v++) {
        siginfo_t i;
        MUST(sigwaitinfo(&set, &i) == SIGRTMIN && i.si_value.sival_int == v);
    }
    puts("500 in order");
    struct rlimit r = {5, 5};
    SHOW(setrlimit(RLIMIT_SIGPENDING, &r));
    int n = 0;
    while (n < 100 && sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = n}) == 0)
        n++;
    printf("after the limit: %s\n", n < 100 ? err_name(errno) : "no limit");
    CHECK(n <= 5);
    SHOW(kill(getpid(), SIGRTMIN + 1)); /* plain kill never fails for it */
    SHOW(sigqueue(getpid(), 0, (union sigval){0}));
    SHOW(sigqueue(getpid(), 65, (union sigval){0}));
    SHOW(sigqueue(999999999, SIGRTMIN, (union sigval){0}));
    siginfo_t forged = {.si_code = 0, .si_signo = SIGRTMIN};
    SHOW(syscall(SYS_rt_sigqueueinfo, getppid(), SIGRTMIN, &forged));
    return done();
}
