/* Buffers that are chosen when there is something to read: provided ones and rings of them; many reads by one entry. */
#include "../uring.h"
#include <sys/socket.h>

static struct ring r;
static char pool[8][16], more[8][16];
static void provide(int n, int first, int group) {
    struct io_uring_sqe *s = entry(&r, IORING_OP_PROVIDE_BUFFERS, n, pool[first], 16, first, 100);
    s->buf_group = group;
}
static struct io_uring_sqe *choose(int op, int fd, unsigned len, int group, int data) {
    struct io_uring_sqe *s = entry(&r, op, fd, NULL, len, 0, data);
    s->flags = IOSQE_BUFFER_SELECT;
    s->buf_group = group;
    return s;
}

int main(void) {
    r = ring_new(16, 0, 0);
    int p[2], q[2];
    MUST(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, q) == 0);
    choose(IORING_OP_READ, p[0], 16, 1, 1);
    MUST(write(p[1], "a", 1) == 1);
    go(&r, "no group", 1);
    provide(4, 0, 1);
    go(&r, "provide", 1);
    choose(IORING_OP_READ, p[0], 16, 1, 1);
    go(&r, "read", 1);
    printf("%s\n", pool[0]);
    /* Requests that wait. */
    choose(IORING_OP_READ, p[0], 16, 1, 1);
    SHOW(submit(&r));
    MUST(write(p[1], "first", 5) == 5);
    show(&r, 1);
    choose(IORING_OP_RECV, q[0], 16, 1, 2);
    SHOW(submit(&r));
    MUST(write(q[1], "second", 6) == 6);
    show(&r, 1);
    printf("%s %s\n", pool[1], pool[2]);
    choose(IORING_OP_RECV, q[0], 4, 1, 1);
    MUST(write(q[1], "longer", 6) == 6);
    go(&r, "shorter", 1);
    printf("%.4s\n", pool[3]);
    choose(IORING_OP_RECV, q[0], 4, 1, 1);
    go(&r, "none left", 1);
    provide(3, 5, 1);
    entry(&r, IORING_OP_REMOVE_BUFFERS, 1, NULL, 0, 0, 1)->buf_group = 1;
    entry(&r, IORING_OP_REMOVE_BUFFERS, 9, NULL, 0, 0, 2)->buf_group = 1;
    entry(&r, IORING_OP_REMOVE_BUFFERS, 1, NULL, 0, 0, 3)->buf_group = 7;
    go(&r, "remove", 4);
    provide(0, 0, 1);
    go(&r, "provide none", 1);
    entry(&r, IORING_OP_PROVIDE_BUFFERS, 1, BAD, 0, 0, 1);
    go(&r, "no length", 1);
    entry(&r, IORING_OP_PROVIDE_BUFFERS, 1, (void *)-4096, 4096, 0, 1);
    go(&r, "bad address", 1);
    entry(&r, IORING_OP_PROVIDE_BUFFERS, 1, pool, 16, 70000, 1);
    go(&r, "bad number", 1);
    /* Many reads by one entry. */
    provide(3, 0, 1);
    go(&r, "provide", 1);
    MUST(read(q[0], pool, 2) == 2);
    {
        struct io_uring_sqe *s = choose(IORING_OP_RECV, q[0], 0, 1, 1);
        s->ioprio = IORING_RECV_MULTISHOT;
    }
    SHOW(submit(&r));
    for (int i = 0; i < 4; i++) {
        MUST(write(q[1], "0123" + i, 1) == 1);
        show(&r, 1);
    }
    provide(3, 0, 1);
    go(&r, "provide", 1);
    choose(IORING_OP_RECV, q[0], 0, 1, 1)->ioprio = IORING_RECV_MULTISHOT;
    SHOW(submit(&r));
    show(&r, 1);
    close(q[1]);
    show(&r, 1);
    choose(IORING_OP_RECV, q[0], 0, 1, 1)->ioprio = 1 << 12;
    go(&r, "odd", 1);
    entry(&r, IORING_OP_RECV, q[0], pool, 16, 0, 1)->ioprio = IORING_RECV_MULTISHOT;
    go(&r, "many without buffers", 1);

    /* A ring of buffers. */
    struct io_uring_buf_ring *br = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(br != MAP_FAILED);
    struct io_uring_buf_reg reg;
    memset(&reg, 0, sizeof reg);
    reg.ring_addr = (uintptr_t)br;
    reg.ring_entries = 8;
    reg.bgid = 3;
    SHOW(uring_register(r.fd, IORING_REGISTER_PBUF_RING, &reg, 1));
    SHOW(uring_register(r.fd, IORING_REGISTER_PBUF_RING, &reg, 1));
    reg.ring_entries = 7;
    reg.bgid = 4;
    SHOW(uring_register(r.fd, IORING_REGISTER_PBUF_RING, &reg, 1));
    reg.ring_entries = 8;
    reg.ring_addr++;
    SHOW(uring_register(r.fd, IORING_REGISTER_PBUF_RING, &reg, 1));
    reg.ring_addr--;
    for (int i = 0; i < 4; i++) {
        br->bufs[i].addr = (uintptr_t)more[i];
        br->bufs[i].len = 16;
        br->bufs[i].bid = (uint16_t)(40 + i);
    }
    __atomic_store_n(&br->tail, 4, __ATOMIC_RELEASE);
    choose(IORING_OP_READ, p[0], 0, 3, 1);
    SHOW(submit(&r));
    MUST(write(p[1], "ring", 4) == 4);
    show(&r, 1);
    printf("%s\n", more[0]);
    struct iovec v = {NULL, 16};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, q) == 0);
    struct io_uring_sqe *s = entry(&r, IORING_OP_RECVMSG, q[0], &m, 1, 0, 2);
    s->flags = IOSQE_BUFFER_SELECT;
    s->buf_group = 3;
    SHOW(submit(&r));
    MUST(write(q[1], "message", 7) == 7);
    show(&r, 1);
    printf("%s\n", more[1]);
    for (int i = 0; i < 3; i++)
        choose(IORING_OP_READ, p[0], 16, 3, 3 + i)->flags |= i < 2 ? IOSQE_IO_LINK : 0;
    MUST(write(p[1], "0123456789abcdef0123456789abcdef0123", 36) == 36);
    go(&r, "until none is left", 3);
    entry(&r, IORING_OP_PROVIDE_BUFFERS, 1, pool, 16, 0, 1)->buf_group = 3;
    go(&r, "provide to a ring", 1);
    reg.bgid = 3;
    SHOW(uring_register(r.fd, IORING_UNREGISTER_PBUF_RING, &reg, 1));
    SHOW(uring_register(r.fd, IORING_UNREGISTER_PBUF_RING, &reg, 1));
    ring_free(&r);
    return done();
}
