// modes: static dynamic musl
// epoll corners: edges on pipes and sockets in every state, MOD as a re-arm, depth limits, exclusive's rules, fork, epoll_pwait2.
#include "../common.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#ifndef EPOLLEXCLUSIVE
#define EPOLLEXCLUSIVE (1U << 28)
#endif

static int ep;
static char big[1 << 20];

static int ctl(int e, int op, int fd, uint32_t events, uint64_t data) {
    struct epoll_event ev = {.events = events, .data.u64 = data};
    return epoll_ctl(e, op, fd, &ev);
}

static void look(const char *what) {
    struct epoll_event ev[16];
    int n = epoll_wait(ep, ev, 16, 0);
    printf("%s:", what);
    for (int i = 0; i < n; i++)
        printf(" %llu=%x", (unsigned long long)ev[i].data.u64, ev[i].events);
    printf("%s\n", n == 0 ? " nothing" : n < 0 ? err_name(errno) : "");
}

#define ALL (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLRDNORM | EPOLLWRNORM | EPOLLRDBAND | EPOLLWRBAND)

static void pipes(void) {
    int p[2];
    char b[8192];
    MUST(pipe2(p, O_NONBLOCK) == 0);
    ep = epoll_create1(0);
    SHOW(ctl(ep, EPOLL_CTL_ADD, p[0], ALL | EPOLLET, 1));
    SHOW(ctl(ep, EPOLL_CTL_ADD, p[1], ALL | EPOLLET, 2));
    look("fresh pipe");
    look("again");
    MUST(write(p[1], "abc", 3) == 3);
    look("written");
    MUST(write(p[1], "abc", 3) == 3);
    look("written more");
    MUST(read(p[0], b, 2) == 2);
    look("partly read");
    while (write(p[1], big, 4096) > 0)
        ;
    look("full");
    MUST(read(p[0], b, 100) > 0);
    look("a little read");
    MUST(read(p[0], b, 8192) > 0);
    look("pages read");
    while (read(p[0], b, sizeof b) > 0)
        ;
    look("drained");
    SHOW(ctl(ep, EPOLL_CTL_MOD, p[1], EPOLLOUT | EPOLLET, 3));
    look("modified");
    SHOW(ctl(ep, EPOLL_CTL_MOD, p[1], 0, 4));
    look("only errors wanted");
    close(p[0]);
    look("reader gone");
    look("reader gone, level now");
    close(p[1]);
    look("closed");
    MUST(pipe2(p, O_NONBLOCK) == 0);
    SHOW(ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLET, 5));
    close(p[1]);
    look("writer gone");
    look("edge is over");
    close(p[0]);
    close(ep);
}

static void sockets(int kind) {
    int s[2];
    MUST(socketpair(AF_UNIX, kind | SOCK_NONBLOCK, 0, s) == 0);
    ep = epoll_create1(0);
    SHOW(ctl(ep, EPOLL_CTL_ADD, s[0], ALL | EPOLLET, 1));
    SHOW(ctl(ep, EPOLL_CTL_ADD, s[1], ALL, 2));
    look("fresh");
    MUST(write(s[1], "abc", 3) == 3);
    look("message");
    MUST(write(s[1], "abc", 3) == 3);
    look("another");
    char b[8192];
    MUST(read(s[0], b, 1) == 1);
    look("one byte read");
    while (read(s[0], b, sizeof b) > 0)
        ;
    while (write(s[0], big, 8000) > 0)
        ;
    look("filled");
    for (int i = 0; i < 40 && read(s[1], b, 4000) > 0; i++) {
        struct epoll_event ev[4];
        int n = epoll_wait(ep, ev, 4, 0);
        for (int k = 0; k < n; k++)
            if (ev[k].data.u64 == 1)
                printf("event %x after read %d\n", ev[k].events, i);
    }
    while (read(s[1], b, sizeof b) > 0)
        ;
    look("emptied");
    SHOW(shutdown(s[1], SHUT_WR));
    look("half closed");
    SHOW(shutdown(s[0], SHUT_WR));
    look("closed both ways");
    close(s[1]);
    look("peer gone");
    close(s[0]);
    close(ep);
}

static void depth(void) {
    int e[8];
    for (int i = 0; i < 8; i++)
        e[i] = epoll_create1(0);
    for (int i = 1; i < 8; i++)
        printf("chain of %d: %s\n", i + 1, ctl(e[i], EPOLL_CTL_ADD, e[i - 1], EPOLLIN, i) ? err_name(errno) : "ok");
    SHOW(ctl(e[0], EPOLL_CTL_ADD, e[2], EPOLLIN, 0));
    SHOW(ctl(e[0], EPOLL_CTL_ADD, e[0], EPOLLIN, 0));
    SHOW(ctl(e[1], EPOLL_CTL_DEL, e[0], 0, 0));
    SHOW(ctl(e[0], EPOLL_CTL_ADD, e[1], EPOLLIN, 0));
    for (int i = 0; i < 8; i++)
        close(e[i]);
    /* An edge through a nested set. */
    int p[2], in = epoll_create1(0);
    ep = epoll_create1(0);
    MUST(pipe2(p, O_NONBLOCK) == 0);
    MUST(ctl(in, EPOLL_CTL_ADD, p[0], EPOLLIN, 1) == 0 && ctl(ep, EPOLL_CTL_ADD, in, EPOLLIN | EPOLLET, 2) == 0);
    look("nested, idle");
    MUST(write(p[1], "x", 1) == 1);
    look("nested, ready");
    look("nested, edge is over");
    MUST(write(p[1], "x", 1) == 1);
    look("nested, more");
    struct pollfd pf = {ep, POLLIN | POLLOUT, 0};
    SHOW(poll(&pf, 1, 0));
    MUST(write(p[1], "x", 1) == 1);
    SHOW(poll(&pf, 1, 0));
    printf("%x\n", pf.revents);
    close(p[0]), close(p[1]), close(in), close(ep);
}

static void rules(void) {
    int efd = eventfd(1, EFD_NONBLOCK), other = epoll_create1(0);
    ep = epoll_create1(EPOLL_CLOEXEC);
    SHOW(ctl(ep, EPOLL_CTL_ADD, efd, EPOLLIN | EPOLLEXCLUSIVE, 1));
    SHOW(ctl(ep, EPOLL_CTL_MOD, efd, EPOLLIN, 1));
    SHOW(ctl(ep, EPOLL_CTL_MOD, efd, EPOLLIN | EPOLLEXCLUSIVE, 1));
    SHOW(ctl(ep, EPOLL_CTL_DEL, efd, 0, 1));
    SHOW(ctl(ep, EPOLL_CTL_ADD, efd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1));
    SHOW(ctl(ep, EPOLL_CTL_ADD, efd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP, 1));
    SHOW(ctl(ep, EPOLL_CTL_ADD, other, EPOLLIN | EPOLLEXCLUSIVE, 1));
    SHOW(ctl(ep, EPOLL_CTL_MOD, efd, EPOLLIN, 1));
    SHOW(ctl(ep, EPOLL_CTL_DEL, efd, EPOLLIN, 1));
    SHOW(ctl(ep, 9, efd, EPOLLIN, 1));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, efd, NULL));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, efd, BAD));
    SHOW(ctl(ep, EPOLL_CTL_ADD, efd, EPOLLIN | EPOLLOUT | EPOLLONESHOT, 7));
    look("one shot");
    look("spent");
    SHOW(ctl(ep, EPOLL_CTL_MOD, efd, EPOLLIN | EPOLLONESHOT, 8));
    look("armed again");
    SHOW(ctl(ep, EPOLL_CTL_ADD, efd, EPOLLIN, 9));
    int d = dup(efd);
    SHOW(ctl(ep, EPOLL_CTL_ADD, d, EPOLLIN | EPOLLET, 10));
    look("duplicate");
    uint64_t v = 5;
    MUST(write(efd, &v, 8) == 8);
    look("written");
    close(d);
    MUST(write(efd, &v, 8) == 8);
    look("duplicate closed, description open");
    struct epoll_event ev;
    SHOW(epoll_wait(ep, &ev, 0, 0));
    SHOW(epoll_wait(ep, &ev, -1, 0));
    SHOW(epoll_wait(ep, BAD, 1, 0));
    SHOW(epoll_wait(efd, &ev, 1, 0));
    SHOW(epoll_wait(-1, &ev, 1, 0));
    SHOW(epoll_create(0));
    SHOW(epoll_create1(3));
    char c;
    SHOW(read(ep, &c, 1));
    SHOW(write(ep, &c, 1));
    close(efd), close(other), close(ep);
}

static void on_alarm(int s) { (void)s; }

static void waits(void) {
    struct epoll_event ev;
    int efd = eventfd(0, 0);
    ep = epoll_create1(0);
    MUST(ctl(ep, EPOLL_CTL_ADD, efd, EPOLLIN, 1) == 0);
    struct timespec t = {0, 3000000};
    int64_t from = now_ns(CLOCK_MONOTONIC);
    SHOW(syscall(SYS_epoll_pwait2, ep, &ev, 1, &t, NULL, 8L));
    CHECK(now_ns(CLOCK_MONOTONIC) - from >= 3000000);
    t.tv_nsec = 2000000000;
    SHOW(syscall(SYS_epoll_pwait2, ep, &ev, 1, &t, NULL, 8L));
    sigset_t none, alarm;
    sigemptyset(&none);
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    SHOW(syscall(SYS_epoll_pwait, ep, &ev, 1, 0, &none, 4L));
    struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &sa, NULL);
    sigprocmask(SIG_BLOCK, &alarm, NULL);
    struct itimerval it = {{0, 0}, {0, 10000}};
    setitimer(ITIMER_REAL, &it, NULL);
    SHOW(epoll_wait(ep, &ev, 1, 30));
    SHOW(epoll_pwait(ep, &ev, 1, -1, &none));
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    SHOW(sigismember(&now, SIGALRM));
    SHOW(epoll_pwait(ep, &ev, 1, 0, &none));
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        uint64_t v = 1;
        sleep_ms(5);
        child_exit(write(efd, &v, 8) != 8);
    }
    SHOW(epoll_wait(ep, &ev, 1, -1));
    wait_show("writer", pid);
    close(efd), close(ep);
}

int main(void) {
    pipes();
    sockets(SOCK_STREAM);
    sockets(SOCK_DGRAM);
    sockets(SOCK_SEQPACKET);
    depth();
    rules();
    waits();
    return done();
}
