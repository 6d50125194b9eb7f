/* Requests that are cancelled: by name, by file, all of them, from a call. */
#include "../uring.h"
#include <poll.h>

#ifndef IORING_ASYNC_CANCEL_USERDATA
#define IORING_ASYNC_CANCEL_USERDATA (1U << 4)
#define IORING_ASYNC_CANCEL_OP (1U << 5)
#endif
static struct ring r;
static int p[2], q[2];
static char b[64];
static struct io_uring_sqe *cancel(uint64_t data, int fd, unsigned flags) {
    struct io_uring_sqe *s = entry(&r, IORING_OP_ASYNC_CANCEL, fd, (void *)(uintptr_t)data, 0, 0, 100);
    s->cancel_flags = flags;
    return s;
}
static void some(void) {
    struct __kernel_timespec longer = {30, 0};
    entry(&r, IORING_OP_POLL_ADD, p[0], NULL, 0, 0, 1)->poll32_events = POLLIN;
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 2);
    entry(&r, IORING_OP_READ, q[0], b, 1, 0, 2);
    entry(&r, IORING_OP_TIMEOUT, -1, &longer, 1, 0, 3);
    MUST(submit(&r) == 4);
    printf("ready %u\n", ready(&r));
}

int main(void) {
    r = ring_new(16, 0, 0);
    MUST(pipe(p) == 0 && pipe(q) == 0);
    some();
    cancel(1, -1, 0);
    go(&r, "poll", 2);
    cancel(2, -1, 0);
    go(&r, "the first read", 2);
    cancel(2, -1, 0);
    go(&r, "the second", 2);
    cancel(2, -1, 0);
    go(&r, "no more", 1);
    cancel(3, -1, 0);
    go(&r, "timeout", 2);
    some();
    cancel(2, -1, IORING_ASYNC_CANCEL_ALL);
    go(&r, "all of a name", 3);
    cancel(0, p[0], IORING_ASYNC_CANCEL_FD);
    go(&r, "by file", 2);
    cancel(0, -1, IORING_ASYNC_CANCEL_ANY);
    go(&r, "any", 2);
    cancel(0, -1, IORING_ASYNC_CANCEL_ANY);
    go(&r, "any of none", 1);
    cancel(7, -1, IORING_ASYNC_CANCEL_ALL);
    go(&r, "all of none", 1);
    cancel(7, 99, IORING_ASYNC_CANCEL_FD);
    go(&r, "no such file", 1);
    cancel(7, 99, 1 << 20);
    go(&r, "odd flags", 1);
    entry(&r, IORING_OP_ASYNC_CANCEL, -1, NULL, 0, 5, 1);
    go(&r, "offset", 1);
    /* A chain whose head is cancelled. */
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 1)->flags = IOSQE_IO_LINK;
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 2);
    SHOW(submit(&r));
    cancel(2, -1, 0);
    go(&r, "what has not begun", 1);
    cancel(1, -1, 0);
    go(&r, "head", 3);
    /* From a call. */
    some();
    struct io_uring_sync_cancel_reg c;
    memset(&c, 0, sizeof c);
    c.addr = 1;
    c.timeout.tv_sec = c.timeout.tv_nsec = -1;
    SHOW(uring_register(r.fd, IORING_REGISTER_SYNC_CANCEL, &c, 1));
    show(&r, 1);
    SHOW(uring_register(r.fd, IORING_REGISTER_SYNC_CANCEL, &c, 1));
    c.flags = IORING_ASYNC_CANCEL_ANY;
    SHOW(uring_register(r.fd, IORING_REGISTER_SYNC_CANCEL, &c, 1));
    show(&r, 3);
    /* What was cancelled takes nothing. */
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 1);
    MUST(submit(&r) == 1);
    cancel(1, -1, 0);
    go(&r, "reader", 2);
    MUST(write(p[1], "k", 1) == 1);
    SHOW(read(p[0], b, 8));
    ring_free(&r);
    return done();
}
