// modes: static dynamic musl
// One epoll over an eventfd, a timerfd, a signalfd, a pipe, a socket pair and a listening socket.
#include "../common.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

int main(void) {
    int ep = epoll_create1(0), fds[6], p[2], s[2];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    MUST(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "sock"};
    fds[0] = eventfd(0, EFD_NONBLOCK);
    fds[1] = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    fds[2] = signalfd(-1, &set, SFD_NONBLOCK);
    fds[3] = p[0];
    fds[4] = s[0];
    fds[5] = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(bind(fds[5], (void *)&a, sizeof a) == 0 && listen(fds[5], 5) == 0);
    for (int i = 0; i < 6; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = (unsigned)i};
        MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &e) == 0);
    }
    struct epoll_event ev[8];
    SHOW(epoll_wait(ep, ev, 8, 0));
    for (int i = 0; i < 6; i++) {
        uint64_t one = 1;
        struct itimerspec t = {{0, 0}, {0, 1000000}};
        int c = socket(AF_UNIX, SOCK_STREAM, 0);
        switch (i) {
        case 0: MUST(write(fds[0], &one, 8) == 8); break;
        case 1: MUST(timerfd_settime(fds[1], 0, &t, NULL) == 0); break;
        case 2: kill(getpid(), SIGUSR1); break;
        case 3: MUST(write(p[1], "x", 1) == 1); break;
        case 4: MUST(write(s[1], "x", 1) == 1); break;
        case 5: MUST(connect(c, (void *)&a, sizeof a) == 0); break;
        }
        int n = epoll_wait(ep, ev, 8, -1);
        printf("source %d: %d event, from %u, %#x\n", i, n, ev[0].data.u32, ev[0].events);
        char b[256];
        if (i < 5)
            MUST(read(fds[i], b, sizeof b) > 0);
        else
            MUST(accept(fds[5], NULL, NULL) >= 0);
        close(c);
    }
    SHOW(epoll_wait(ep, ev, 8, 0));
    return done();
}
