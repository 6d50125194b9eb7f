/* Poll requests: once, many times, changed, removed; a ring among other things that are polled. */
#include "../uring.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

int main(void) {
    struct ring r = ring_new(16, 0, 0), q = ring_new(4, 0, 0);
    struct io_uring_sqe *s;
    int p[2];
    char b[8];
    MUST(pipe(p) == 0);
    entry(&r, IORING_OP_POLL_ADD, p[0], NULL, 0, 0, 1)->poll32_events = POLLIN;
    SHOW(submit(&r));
    printf("ready %u\n", ready(&r));
    MUST(write(p[1], "a", 1) == 1);
    show(&r, 1);
    entry(&r, IORING_OP_POLL_ADD, p[0], NULL, 0, 0, 1)->poll32_events = POLLIN;
    entry(&r, IORING_OP_POLL_ADD, p[1], NULL, 0, 0, 2)->poll32_events = POLLOUT;
    go(&r, "at once", 2);
    MUST(read(p[0], b, 8) == 1);
    put_file("f", "x");
    int f = open("f", O_RDONLY);
    entry(&r, IORING_OP_POLL_ADD, f, NULL, 0, 0, 1)->poll32_events = POLLIN;
    go(&r, "a file", 1);
    entry(&r, IORING_OP_POLL_ADD, 99, NULL, 0, 0, 1)->poll32_events = POLLIN;
    go(&r, "nothing", 1);
    entry(&r, IORING_OP_POLL_ADD, p[0], NULL, 1 << 10, 0, 1)->poll32_events = POLLIN;
    go(&r, "odd", 1);
    entry(&r, IORING_OP_POLL_ADD, p[0], NULL, 0, 5, 1)->poll32_events = POLLIN;
    go(&r, "offset", 1);
    /* Many times. */
    s = entry(&r, IORING_OP_POLL_ADD, p[0], NULL, IORING_POLL_ADD_MULTI, 0, 3);
    s->poll32_events = POLLIN;
    SHOW(submit(&r));
    for (int i = 0; i < 3; i++) {
        MUST(write(p[1], "m", 1) == 1);
        show(&r, 1);
        MUST(read(p[0], b, 8) == 1);
    }
    printf("ready %u\n", ready(&r));
    entry(&r, IORING_OP_POLL_REMOVE, -1, (void *)3, 0, 0, 4);
    go(&r, "removed", 2);
    entry(&r, IORING_OP_POLL_REMOVE, -1, (void *)3, 0, 0, 4);
    go(&r, "not there", 1);
    /* Changed. */
    entry(&r, IORING_OP_POLL_ADD, p[0], NULL, 0, 0, 5)->poll32_events = POLLIN;
    SHOW(submit(&r));
    entry(&r, IORING_OP_POLL_REMOVE, -1, (void *)5, IORING_POLL_UPDATE_USER_DATA, 6, 7);
    go(&r, "new name", 1);
    MUST(write(p[1], "u", 1) == 1);
    show(&r, 1);
    MUST(read(p[0], b, 8) == 1);
    fcntl(p[1], F_SETPIPE_SZ, 4096);
    static char page[4096];
    MUST(write(p[1], page, 4096) == 4096);
    entry(&r, IORING_OP_POLL_ADD, p[1], NULL, 0, 0, 8)->poll32_events = POLLOUT;
    SHOW(submit(&r));
    s = entry(&r, IORING_OP_POLL_REMOVE, -1, (void *)8, IORING_POLL_UPDATE_EVENTS, 0, 9);
    s->poll32_events = POLLPRI;
    go(&r, "other events", 1);
    MUST(read(p[0], page, 4096) == 4096);
    printf("ready %u\n", ready(&r));
    s = entry(&r, IORING_OP_POLL_REMOVE, -1, (void *)8, IORING_POLL_UPDATE_EVENTS, 0, 9);
    s->poll32_events = POLLOUT;
    go(&r, "and back", 2);
    entry(&r, IORING_OP_POLL_REMOVE, -1, (void *)8, 1 << 10, 0, 9);
    go(&r, "odd update", 1);
    /* The other end goes. */
    s = entry(&r, IORING_OP_POLL_ADD, p[0], NULL, IORING_POLL_ADD_MULTI, 0, 10);
    s->poll32_events = POLLIN;
    SHOW(submit(&r));
    close(p[1]);
    show(&r, 1);
    entry(&r, IORING_OP_POLL_REMOVE, -1, (void *)10, 0, 0, 11);
    go(&r, "removed", 2);
    /* A ring that is polled, by epoll and by another ring. */
    int ep = epoll_create1(0);
    struct epoll_event ev = {EPOLLIN, {.u64 = 5}}, got;
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, q.fd, &ev));
    SHOW(epoll_wait(ep, &got, 1, 0));
    entry(&q, IORING_OP_NOP, -1, NULL, 0, 0, 1);
    SHOW(submit(&q));
    SHOW(epoll_wait(ep, &got, 1, 1000));
    show(&q, 1);
    SHOW(epoll_wait(ep, &got, 1, 0));
    entry(&r, IORING_OP_POLL_ADD, q.fd, NULL, 0, 0, 12)->poll32_events = POLLIN;
    SHOW(submit(&r));
    entry(&q, IORING_OP_NOP, -1, NULL, 0, 0, 1);
    SHOW(submit(&q));
    show(&r, 1);
    show(&q, 1);
    /* A ring that watches an epoll set which holds it. */
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, r.fd, &ev));
    entry(&r, IORING_OP_POLL_ADD, ep, NULL, 0, 0, 13)->poll32_events = POLLIN;
    SHOW(submit(&r));
    entry(&q, IORING_OP_NOP, -1, NULL, 0, 0, 1);
    SHOW(submit(&q));
    show(&r, 1);
    show(&q, 1);
    /* epoll_ctl by a request. */
    int e = eventfd(1, 0);
    ev.data.u64 = 77;
    entry(&r, IORING_OP_EPOLL_CTL, ep, &ev, EPOLL_CTL_ADD, e, 14);
    go(&r, "epoll_ctl", 1);
    entry(&r, IORING_OP_EPOLL_CTL, ep, &ev, EPOLL_CTL_ADD, e, 14);
    go(&r, "again", 1);
    SHOW(epoll_wait(ep, &got, 1, 0));
    printf("data %d\n", (int)got.data.u64);
    entry(&r, IORING_OP_EPOLL_CTL, ep, NULL, EPOLL_CTL_DEL, e, 14);
    go(&r, "delete", 1);
    /* Rings that watch each other come to rest. */
    s = entry(&r, IORING_OP_POLL_ADD, q.fd, NULL, IORING_POLL_ADD_MULTI, 0, 15);
    s->poll32_events = POLLIN;
    s = entry(&q, IORING_OP_POLL_ADD, r.fd, NULL, IORING_POLL_ADD_MULTI, 0, 16);
    s->poll32_events = POLLIN;
    SHOW(submit(&r));
    SHOW(submit(&q));
    entry(&q, IORING_OP_NOP, -1, NULL, 0, 0, 17);
    SHOW(submit(&q));
    CHECK(take(&r).user_data == 15);
    CHECK(ready(&r) + ready(&q) < 8);
    ring_free(&r);
    ring_free(&q);
    /* A ring whose eventfd it polls itself, and one in an epoll set that it polls. */
    r = ring_new(8, 0, 0);
    e = eventfd(0, 0);
    MUST(uring_register(r.fd, IORING_REGISTER_EVENTFD, &e, 1) == 0);
    s = entry(&r, IORING_OP_POLL_ADD, e, NULL, IORING_POLL_ADD_MULTI, 0, 18);
    s->poll32_events = POLLIN;
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 19);
    go(&r, "its own eventfd", 2);
    printf("ready %u\n", ready(&r));
    ring_free(&r);
    r = ring_new(8, 0, 0);
    ep = epoll_create1(0);
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, r.fd, &ev) == 0);
    s = entry(&r, IORING_OP_POLL_ADD, ep, NULL, IORING_POLL_ADD_MULTI, 0, 20);
    s->poll32_events = POLLIN;
    SHOW(submit(&r));
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 21);
    go(&r, "its own epoll set", 2);
    printf("ready %u\n", ready(&r));
    ring_free(&r);
    /* The last completion for which there is room is not followed by more. */
    r = ring_new(2, IORING_SETUP_CQSIZE, 2);
    MUST(pipe(p) == 0);
    s = entry(&r, IORING_OP_POLL_ADD, p[0], NULL, IORING_POLL_ADD_MULTI, 0, 22);
    s->poll32_events = POLLIN;
    SHOW(submit(&r));
    for (int i = 0; i < 4; i++) {
        MUST(write(p[1], "x", 1) == 1);
        MUST(read(p[0], b, 8) == 1);
    }
    MUST(write(p[1], "x", 1) == 1);
    SHOW(uring_enter(r.fd, 0, 0, IORING_ENTER_GETEVENTS));
    struct cqe c;
    int n = 0;
    do {
        while (next(&r, &c))
            n++;
    } while (uring_enter(r.fd, 0, 0, IORING_ENTER_GETEVENTS) == 0 && ready(&r));
    CHECK(n >= 1 && n <= 3);
    ring_free(&r);
    return done();
}
