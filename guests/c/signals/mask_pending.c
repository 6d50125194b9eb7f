// modes: static dynamic musl
// Blocked signals stay pending, once for ordinary ones; unblocking delivers them, lowest number first.
#include "../common.h"

static void handler(int s) { printf("delivered %s\n", sig_name(s)); }

int main(void) {
    sigset_t block, old, pending;
    struct sigaction a = {.sa_handler = handler};
    const int sigs[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGTERM, SIGCHLD};
    sigemptyset(&block);
    for (int i = 0; i < 5; i++) {
        sigaddset(&a.sa_mask, sigs[i]); /* one handler at a time */
        sigaddset(&block, sigs[i]);
    }
    for (int i = 0; i < 5; i++)
        sigaction(sigs[i], &a, NULL);
    SHOW(sigprocmask(SIG_BLOCK, &block, &old));
    CHECK(sigismember(&old, SIGUSR1) == 0);
    for (int round = 0; round < 3; round++)
        for (int i = 4; i >= 0; i--)
            raise(sigs[i]);
    SHOW(sigpending(&pending));
    for (int i = 0; i < 5; i++)
        printf("%d", sigismember(&pending, sigs[i]));
    puts("");
    sigdelset(&block, SIGUSR2);
    SHOW(sigprocmask(SIG_SETMASK, &block, NULL));
    puts("now the rest");
    /* The first frame to run is that of the lowest number's successor: handlers nest on the way out. */
    SHOW(sigprocmask(SIG_UNBLOCK, &block, NULL));
    sigpending(&pending);
    CHECK(sigismember(&pending, SIGUSR1) == 0);
    SHOW(sigprocmask(99, &block, NULL));
    SHOW(sigprocmask(99, NULL, &old));
    SHOW(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &block, NULL, 4L));
    SHOW(syscall(SYS_rt_sigprocmask, SIG_BLOCK, BAD, NULL, 8L));
    sigfillset(&block);
    SHOW(sigprocmask(SIG_BLOCK, &block, NULL));
    SHOW(sigprocmask(SIG_BLOCK, NULL, &old));
    printf("KILL %d STOP %d TERM %d\n", sigismember(&old, SIGKILL), sigismember(&old, SIGSTOP), sigismember(&old, SIGTERM));
    /* An ignored signal does not stay pending, even while it is blocked. */
    raise(SIGUSR1);
    signal(SIGUSR1, SIG_IGN);
    sigpending(&pending);
    SHOW(sigismember(&pending, SIGUSR1));
    pid_t p = fork();
    if (p == 0) {
        sigpending(&pending);
        SHOW(sigismember(&pending, SIGTERM)); /* pending ones are not inherited, the mask is */
        sigprocmask(SIG_BLOCK, NULL, &old);
        SHOW(sigismember(&old, SIGTERM));
        child_exit(0);
    }
    wait_show("child", p);
    return done();
}
