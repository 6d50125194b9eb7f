// modes: static dynamic musl
// epoll: add, modify, delete, level-triggered reports, data, limits, every error.
#include "../common.h"
#include <sys/epoll.h>

static int ep;
static void wait_show_events(const char *what, int max) {
    struct epoll_event ev[8];
    int n = epoll_wait(ep, ev, max, 0);
    printf("%s: %d", what, n);
    uint64_t data = 0;
    unsigned all = 0;
    for (int i = 0; i < n; i++)
        data += ev[i].data.u64, all |= ev[i].events;
    printf(" events %#x data %llu\n", all, (unsigned long long)data);
}
static int ctl(int op, int fd, unsigned events, uint64_t data) {
    struct epoll_event e = {.events = events, .data.u64 = data};
    return epoll_ctl(ep, op, fd, &e);
}

int main(void) {
    int p[2];
    MUST(pipe(p) == 0);
    ep = epoll_create1(EPOLL_CLOEXEC);
    SHOW(fcntl(ep, F_GETFD));
    SHOW(ctl(EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
    SHOW(ctl(EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
    SHOW(ctl(EPOLL_CTL_ADD, p[1], EPOLLOUT, 20));
    wait_show_events("writable", 8);
    MUST(write(p[1], "x", 1) == 1);
    wait_show_events("both", 8);
    wait_show_events("again, level-triggered", 8);
    wait_show_events("one at a time", 1);
    SHOW(ctl(EPOLL_CTL_MOD, p[1], 0, 20));
    wait_show_events("modified", 8);
    SHOW(ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLRDNORM, 300));
    wait_show_events("new data", 8);
    SHOW(ctl(EPOLL_CTL_DEL, p[0], 0, 0));
    SHOW(ctl(EPOLL_CTL_DEL, p[0], 0, 0));
    SHOW(ctl(EPOLL_CTL_MOD, p[0], EPOLLIN, 0));
    wait_show_events("deleted", 8);
    close(p[0]);
    wait_show_events("peer closed, nothing asked", 8);
    close(p[1]);
    wait_show_events("closed itself", 8);
    put_file("f", "x");
    int f = open("f", O_RDONLY), d = open(".", O_RDONLY);
    SHOW(ctl(EPOLL_CTL_ADD, f, EPOLLIN, 0));
    SHOW(ctl(EPOLL_CTL_ADD, d, EPOLLIN, 0));
    SHOW(ctl(EPOLL_CTL_ADD, ep, EPOLLIN, 0));
    SHOW(ctl(EPOLL_CTL_ADD, 99, EPOLLIN, 0));
    SHOW(epoll_ctl(99, EPOLL_CTL_ADD, f, &(struct epoll_event){0}));
    SHOW(epoll_ctl(f, EPOLL_CTL_ADD, d, &(struct epoll_event){0}));
    MUST(pipe(p) == 0);
    SHOW(ctl(77, p[0], EPOLLIN, 0));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], NULL));
    struct epoll_event ev[2];
    SHOW(epoll_wait(ep, ev, 0, 0));
    SHOW(epoll_wait(ep, ev, -1, 0));
    SHOW(epoll_wait(f, ev, 1, 0));
    SHOW(epoll_wait(99, ev, 1, 0));
    SHOW(epoll_create1(0x100));
    SHOW(epoll_create(0));
    SHOWN(epoll_create(1));
    int64_t start = now_ns(CLOCK_MONOTONIC);
    SHOW(epoll_wait(ep, ev, 1, 4));
    CHECK(now_ns(CLOCK_MONOTONIC) - start >= 4000000);
    struct timespec t = {0, 1000000};
    long r = syscall(441, ep, ev, 1, &t, NULL, 8L); /* epoll_pwait2 */
    CHECK(r == 0 || errno == ENOSYS);
    return done();
}
