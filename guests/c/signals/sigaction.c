// modes: static dynamic musl
// sigaction: what is set is read back, defaults, refusals, what signal() does.
#include "../common.h"

static void handler(int s) { printf("handler %s\n", sig_name(s)); }
static void info(int s, siginfo_t *i, void *u) {
    (void)u;
    printf("info %s code %d mine %d\n", sig_name(s), i->si_code, i->si_pid == getpid() && i->si_uid == getuid());
}

int main(void) {
    struct sigaction a, old;
    SHOW(sigaction(SIGUSR1, NULL, &old));
    CHECK(old.sa_handler == SIG_DFL && old.sa_flags == 0);
    memset(&a, 0, sizeof a);
    a.sa_handler = handler;
    a.sa_flags = SA_RESTART | SA_NODEFER;
    sigaddset(&a.sa_mask, SIGUSR2);
    SHOW(sigaction(SIGUSR1, &a, NULL));
    SHOW(sigaction(SIGUSR1, NULL, &old));
    CHECK(old.sa_handler == handler && (old.sa_flags & (SA_RESTART | SA_NODEFER)) == (SA_RESTART | SA_NODEFER));
    CHECK(sigismember(&old.sa_mask, SIGUSR2) == 1 && sigismember(&old.sa_mask, SIGHUP) == 0);
    raise(SIGUSR1);
    a.sa_sigaction = info;
    a.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &a, NULL);
    raise(SIGUSR1);
    kill(getpid(), SIGUSR1);
    SHOW(sigaction(SIGKILL, &a, NULL));
    SHOW(sigaction(SIGSTOP, &a, NULL));
    SHOW(sigaction(SIGKILL, NULL, &old));
    SHOW(sigaction(0, &a, NULL));
    SHOW(sigaction(65, &a, NULL));
    SHOW(sigaction(-1, &a, NULL));
    SHOW(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4L));
    CHECK(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
    raise(SIGUSR1);
    puts("ignored");
    CHECK(signal(SIGUSR1, handler) == SIG_IGN);
    CHECK(signal(SIGKILL, handler) == SIG_ERR && errno == EINVAL);
    raise(SIGUSR1);
    raise(SIGUSR1);
    return done();
}
