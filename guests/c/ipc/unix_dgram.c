// modes: static dynamic musl
// UNIX datagrams and sequenced packets: addresses, truncation, connected and not, full receivers, peers that go.
#include "../common.h"
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un name(const char *s, socklen_t *l) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    a.sun_path[0] = 0;
    int n = sprintf(a.sun_path + 1, "%s%08d", s, getpid()); /* abstract names are the machine's: one per run */
    *l = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    return a;
}

static int bound(const char *s) {
    socklen_t l;
    struct sockaddr_un a = name(s, &l);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    MUST(fd >= 0 && bind(fd, (void *)&a, l) == 0);
    return fd;
}

static void ready(const char *what, int fd) {
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};
    poll(&p, 1, 0);
    printf("%s ready %x\n", what, p.revents);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    static char big[300000];
    char b[100];
    socklen_t l, la;
    int r = bound("ftl-dg-r"), s = bound("ftl-dg-s"), t = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_un a = name("ftl-dg-r", &la), from;

    SHOW(send(t, "x", 1, 0));
    SHOW(sendto(s, "hello", 5, 0, (void *)&a, la));
    SHOW(sendto(t, "anonymous", 9, 0, (void *)&a, la));
    SHOW(sendto(t, "", 0, 0, (void *)&a, la));
    ready("receiver", r);
    l = sizeof from;
    SHOW(recvfrom(r, b, 2, MSG_PEEK, (void *)&from, &l));
    printf("from %.8s, length %u\n", from.sun_path + 1, l);
    SHOW(recvfrom(r, b, 2, MSG_TRUNC, 0, 0));
    l = sizeof from;
    SHOW(recvfrom(r, b, sizeof b, 0, (void *)&from, &l));
    printf("length %u\n", l);
    SHOW(recv(r, b, sizeof b, 0));
    SHOW(recv(r, b, sizeof b, 0));

    struct iovec iov = {b, 3};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    SHOW(sendto(s, "hello", 5, 0, (void *)&a, la));
    SHOW(recvmsg(r, &m, 0));
    printf("flags %x\n", m.msg_flags);

    SHOW(connect(t, (void *)&a, la));
    ready("connected", t);
    int n = 0;
    while (send(t, "x", 1, 0) == 1)
        n++;
    printf("%d fit, then %s\n", n, err_name(errno));
    ready("sender to a full one", t);
    SHOW(sendto(s, "x", 1, 0, (void *)&a, la));
    SHOW(recv(r, b, 1, 0));
    ready("sender", t);
    SHOW(send(t, big, 212992 - 31, 0));
    SHOW(send(t, big, 150000, 0));
    SHOW(send(t, big, sizeof big, 0));

    /* Connected to somebody else, it takes nothing from a third. */
    struct sockaddr_un as = name("ftl-dg-s", &l);
    SHOW(connect(r, (void *)&as, l));
    SHOW(send(t, "x", 1, 0));
    SHOW(connect(t, (void *)&a, la));
    SHOW(sendto(s, "yes", 3, 0, (void *)&a, la));
    sa_family_t unspec = AF_UNSPEC;
    SHOW(connect(r, (void *)&unspec, sizeof unspec));
    SHOW(send(r, "x", 1, 0));
    close(r);
    SHOW(send(t, "x", 1, 0));
    SHOW(send(t, "x", 1, 0));
    SHOW(sendto(s, "x", 1, 0, (void *)&a, la));

    int p[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, p) == 0);
    SHOW(shutdown(p[0], SHUT_WR));
    SHOW(send(p[0], "x", 1, 0));
    SHOW(recv(p[1], b, 1, 0));
    SHOW(send(p[1], "x", 1, 0));
    SHOW(shutdown(p[0], SHUT_RD));
    SHOW(recv(p[0], b, 1, 0));
    SHOW(recv(p[0], b, 1, 0));
    SHOW(send(p[1], "x", 1, 0));
    ready("shut", p[0]);
    close(p[0]);
    SHOW(send(p[1], "x", 1, 0));
    SHOW(send(p[1], "x", 1, 0));
    ready("left over", p[1]);
    close(p[1]);

    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, p) == 0);
    SHOW(send(p[0], "one", 3, 0));
    SHOW(send(p[0], "three", 5, MSG_EOR));
    iov.iov_len = sizeof b;
    SHOW(recvmsg(p[1], &m, 0));
    printf("flags %x\n", m.msg_flags);
    iov.iov_len = 2;
    SHOW(recvmsg(p[1], &m, MSG_TRUNC));
    printf("flags %x\n", m.msg_flags);
    SHOW(recv(p[1], b, 1, 0));
    SHOW(send(p[0], "last", 4, 0));
    close(p[0]);
    ready("peer gone", p[1]);
    SHOW(recv(p[1], b, 9, 0));
    SHOW(recv(p[1], b, 9, 0));
    SHOW(send(p[1], "x", 1, 0));
    int q = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    SHOW(send(q, "x", 1, 0));
    SHOW(recv(q, b, 1, 0));
    ready("unconnected packets", q);

    struct mmsghdr mm[3];
    struct iovec v[3];
    memset(mm, 0, sizeof mm);
    MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, p) == 0);
    for (int i = 0; i < 3; i++) {
        v[i] = (struct iovec){big + i * 10, i + 1};
        mm[i].msg_hdr.msg_iov = &v[i], mm[i].msg_hdr.msg_iovlen = 1;
    }
    SHOW(sendmmsg(p[0], mm, 3, 0));
    for (int i = 0; i < 3; i++)
        v[i].iov_len = 10, mm[i].msg_len = 99;
    SHOW(recvmmsg(p[1], mm, 2, 0, 0));
    printf("%u %u %u\n", mm[0].msg_len, mm[1].msg_len, mm[2].msg_len);
    SHOW(recvmmsg(p[1], mm, 3, MSG_WAITFORONE, 0));
    printf("%u\n", mm[0].msg_len);
    SHOW(recvmmsg(p[1], mm, 3, 0, 0));
    return done();
}
