// needs: threads
/* Sockets: send and receive in every form, accept and connect, once and many times, on UNIX sockets. */
#include "../uring.h"
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct ring r;
static int connect_to(struct sockaddr_un *a) {
    int c = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(c >= 0 && connect(c, (void *)a, sizeof *a) == 0);
    return c;
}

int main(void) {
    r = ring_new(32, 0, 0);
    struct io_uring_sqe *s;
    char b[64] = "", c[64] = "";
    int p[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
    entry(&r, IORING_OP_SEND, p[0], "hello", 5, 0, 1);
    go(&r, "send", 1);
    entry(&r, IORING_OP_RECV, p[1], b, 64, 0, 1);
    go(&r, "recv", 1);
    puts(b);
    entry(&r, IORING_OP_RECV, p[1], b, 64, 0, 1);
    SHOW(submit(&r));
    printf("ready %u\n", ready(&r));
    MUST(write(p[0], "abc", 3) == 3);
    show(&r, 1);
    entry(&r, IORING_OP_RECV, p[1], b, 64, 0, 1)->msg_flags = MSG_DONTWAIT;
    go(&r, "not now", 1);
    /* All that was asked for. */
    entry(&r, IORING_OP_RECV, p[1], b, 6, 0, 1)->msg_flags = MSG_WAITALL;
    SHOW(submit(&r));
    MUST(write(p[0], "123", 3) == 3);
    printf("ready %u\n", ready(&r));
    MUST(write(p[0], "456", 3) == 3);
    show(&r, 1);
    printf("%.6s\n", b);
    /* Messages, whose headers may go after submission. */
    struct iovec v[2] = {{b, 2}, {c, 10}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
    entry(&r, IORING_OP_RECVMSG, p[1], &m, 1, 0, 1);
    SHOW(submit(&r));
    v[0].iov_base = v[1].iov_base = BAD;
    struct iovec w[2] = {{"one", 3}, {"two", 3}};
    struct msghdr n = {.msg_iov = w, .msg_iovlen = 2};
    entry(&r, IORING_OP_SENDMSG, p[0], &n, 1, 0, 2);
    go(&r, "messages", 2);
    printf("%.2s %.4s\n", b, c);
    /* Descriptors in a message. */
    put_file("f", "inside");
    int f = open("f", O_RDONLY);
    char ctl[CMSG_SPACE(sizeof(int))];
    memset(ctl, 0, sizeof ctl);
    n.msg_control = ctl;
    n.msg_controllen = sizeof ctl;
    struct cmsghdr *h = CMSG_FIRSTHDR(&n);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(h), &f, sizeof f);
    entry(&r, IORING_OP_SENDMSG, p[0], &n, 1, 0, 1);
    go(&r, "rights", 1);
    v[0] = (struct iovec){b, 64};
    m = (struct msghdr){.msg_iov = v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl};
    memset(ctl, 0, sizeof ctl);
    entry(&r, IORING_OP_RECVMSG, p[1], &m, 1, 0, 1);
    go(&r, "their arrival", 1);
    int got = -1;
    if (CMSG_FIRSTHDR(&m))
        memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof got);
    memset(b, 0, sizeof b);
    SHOW(read(got, b, 64));
    puts(b);
    /* A ring is not sent. */
    memcpy(CMSG_DATA(h), &r.fd, sizeof r.fd);
    entry(&r, IORING_OP_SENDMSG, p[0], &n, 1, 0, 1);
    go(&r, "ring", 1);
    entry(&r, IORING_OP_SEND, f, "x", 1, 0, 1);
    entry(&r, IORING_OP_RECV, f, b, 1, 0, 2);
    entry(&r, IORING_OP_ACCEPT, f, NULL, 0, 0, 3);
    entry(&r, IORING_OP_SHUTDOWN, f, NULL, SHUT_WR, 0, 4);
    go(&r, "no sockets", 4);
    entry(&r, IORING_OP_SHUTDOWN, p[0], NULL, SHUT_WR, 0, 1);
    entry(&r, IORING_OP_RECV, p[1], b, 64, 0, 2);
    go(&r, "shutdown", 2);
    entry(&r, IORING_OP_SEND, p[0], "x", 1, 0, 1);
    go(&r, "send after it", 1);
    close(p[1]);
    entry(&r, IORING_OP_WRITE, p[0], "x", 1, 0, 1);
    signal(SIGPIPE, SIG_IGN);
    go(&r, "write after it", 1);

    /* Connections. */
    entry(&r, IORING_OP_SOCKET, AF_UNIX, NULL, 0, SOCK_STREAM, 1);
    MUST(submit(&r) == 1);
    int l = take(&r).res;
    MUST(l > 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "sock"}, from;
    MUST(bind(l, (void *)&a, sizeof a) == 0);
    entry(&r, IORING_OP_ACCEPT, l, NULL, 0, 0, 1);
    go(&r, "accept before listen", 1);
    MUST(listen(l, 8) == 0);
    socklen_t len = sizeof from;
    s = entry(&r, IORING_OP_ACCEPT, l, &from, 0, (uintptr_t)&len, 1);
    s->accept_flags = SOCK_CLOEXEC;
    SHOW(submit(&r));
    printf("ready %u\n", ready(&r));
    int d = socket(AF_UNIX, SOCK_STREAM, 0);
    entry(&r, IORING_OP_CONNECT, d, &a, 0, sizeof a, 2);
    SHOW(submit(&r));
    int fd = -1;
    for (int i = 0; i < 2; i++) {
        struct cqe e = take(&r);
        if (e.user_data == 1)
            fd = e.res;
        else
            print_cqe(&e);
    }
    CHECK(fd > 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    printf("length %u\n", len);
    entry(&r, IORING_OP_SEND, d, "through", 7, 0, 1);
    entry(&r, IORING_OP_RECV, fd, b, 64, 0, 2);
    go(&r, "through", 2);
    struct sockaddr_un none = {.sun_family = AF_UNIX, .sun_path = "none"};
    entry(&r, IORING_OP_CONNECT, d, &none, 0, sizeof none, 1);
    go(&r, "connect to nothing", 1);
    entry(&r, IORING_OP_CONNECT, d, BAD, 0, sizeof none, 1);
    go(&r, "connect to a bad address", 1);
    entry(&r, IORING_OP_ACCEPT, l, NULL, 0, 0, 1)->accept_flags = 1;
    go(&r, "accept flags", 1);
    /* Many connections by one entry. */
    entry(&r, IORING_OP_ACCEPT, l, NULL, 0, 0, 5)->ioprio = IORING_ACCEPT_MULTISHOT;
    SHOW(submit(&r));
    for (int i = 0; i < 3; i++) {
        int e = connect_to(&a);
        struct cqe q = take(&r);
        CHECK(q.user_data == 5 && q.res > 0 && q.flags & IORING_CQE_F_MORE);
        MUST(write(e, "m", 1) == 1);
        MUST(read(q.res, b, 1) == 1);
        close(q.res);
        close(e);
    }
    entry(&r, IORING_OP_ASYNC_CANCEL, -1, (void *)5, 0, 0, 6);
    go(&r, "end of it", 2);
    /* Two that wait: a connection is for one of them. */
    entry(&r, IORING_OP_ACCEPT, l, NULL, 0, 0, 7);
    entry(&r, IORING_OP_ACCEPT, l, NULL, 0, 0, 8);
    SHOW(submit(&r));
    int e1 = connect_to(&a);
    CHECK(take(&r).user_data == 7);
    printf("ready %u\n", ready(&r));
    int e2 = connect_to(&a);
    CHECK(take(&r).user_data == 8);
    close(e1);
    close(e2);
    /* Closed while a request waits: the request keeps it. */
    entry(&r, IORING_OP_ACCEPT, l, NULL, 0, 0, 9);
    SHOW(submit(&r));
    close(l);
    int e3 = connect_to(&a);
    CHECK(take(&r).res > 0);
    close(e3);
    /* Datagrams, with addresses. */
    int x = socket(AF_UNIX, SOCK_DGRAM, 0), y = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct sockaddr_un ax = {.sun_family = AF_UNIX, .sun_path = "x"};
    MUST(bind(x, (void *)&ax, sizeof ax) == 0);
    s = entry(&r, IORING_OP_SEND, y, "datagram", 8, (uintptr_t)&ax, 1);
    s->addr_len = sizeof ax;
    go(&r, "sendto", 1);
    entry(&r, IORING_OP_RECV, x, b, 4, 0, 1);
    go(&r, "cut", 1);
    entry(&r, IORING_OP_SEND, y, "datagram", 8, 0, 1);
    go(&r, "to nobody", 1);
    ring_free(&r);
    return done();
}
