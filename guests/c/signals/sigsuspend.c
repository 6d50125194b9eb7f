// modes: static dynamic musl
// sigsuspend and ppoll install a mask and wait in one step; the old mask is back after the handler.
#include "../common.h"
#include <poll.h>

static void handler(int s) {
    sigset_t m;
    sigprocmask(SIG_BLOCK, NULL, &m);
    printf("%s, USR2 blocked inside %d\n", sig_name(s), sigismember(&m, SIGUSR2));
}

int main(void) {
    sigset_t block, wait_mask, now;
    struct sigaction a = {.sa_handler = handler};
    sigaction(SIGUSR1, &a, NULL);
    sigaction(SIGUSR2, &a, NULL);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    raise(SIGUSR1);
    puts("pending");
    sigemptyset(&wait_mask);
    sigaddset(&wait_mask, SIGUSR2);
    SHOW(sigsuspend(&wait_mask));
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("USR1 %d USR2 %d\n", sigismember(&now, SIGUSR1), sigismember(&now, SIGUSR2));
    pid_t p = fork();
    if (p == 0) {
        sleep_ms(5);
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    SHOW(sigsuspend(&wait_mask));
    wait_show("child", p);
    raise(SIGUSR1);
    struct timespec t = {5, 0};
    SHOW(ppoll(NULL, 0, &t, &wait_mask));
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("USR1 %d USR2 %d\n", sigismember(&now, SIGUSR1), sigismember(&now, SIGUSR2));
    raise(SIGUSR1);
    SHOW(pselect(0, NULL, NULL, NULL, &t, &wait_mask));
    SHOW(syscall(SYS_rt_sigsuspend, &wait_mask, 4L));
    SHOW(syscall(SYS_rt_sigsuspend, BAD, 8L));
    return done();
}
