// modes: static dynamic musl
// epoll_pwait with a mask, EINTR, and a signal that was pending.
#include "../common.h"
#include <sys/epoll.h>

static volatile sig_atomic_t hits;
static void handler(int s) { (void)s, hits++; }

int main(void) {
    int ep = epoll_create1(0), p[2];
    MUST(pipe(p) == 0);
    struct epoll_event e = {.events = EPOLLIN};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e) == 0);
    struct sigaction a = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &a, NULL);
    sigset_t block, none;
    sigemptyset(&block);
    sigemptyset(&none);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    raise(SIGUSR1);
    SHOW(epoll_wait(ep, &e, 1, 2));
    SHOW(hits);
    SHOW(epoll_pwait(ep, &e, 1, 60000, &none));
    SHOW(hits);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    SHOW(sigismember(&now, SIGUSR1));
    pid_t k = fork();
    if (k == 0) {
        sleep_ms(4);
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    SHOW(epoll_pwait(ep, &e, 1, 60000, &none));
    wait_show("child", k);
    MUST(write(p[1], "x", 1) == 1);
    raise(SIGUSR1);
    SHOW(epoll_pwait(ep, &e, 1, 60000, &none)); /* ready events win over a pending signal */
    SHOW(hits >= 2);
    SHOW(epoll_pwait(ep, &e, 1, 0, BAD));
    return done();
}
