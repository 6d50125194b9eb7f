// modes: static dynamic musl
// Abstract UNIX sockets, autobind, and datagram sockets by address with sendto and recvfrom.
#include "../common.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t name(struct sockaddr_un *a, const char *what) {
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    int n = snprintf(a->sun_path + 1, 100, "ftl-%s-%d", what, getpid());
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n);
}

int main(void) {
    struct sockaddr_un a, b, from;
    socklen_t la = name(&a, "a"), lb = name(&b, "b"), len = sizeof from;
    int s = socket(AF_UNIX, SOCK_DGRAM, 0), t = socket(AF_UNIX, SOCK_DGRAM, 0), u = socket(AF_UNIX, SOCK_DGRAM, 0);
    char buf[32] = {0};
    SHOW(bind(s, (void *)&a, la));
    SHOW(bind(t, (void *)&a, la));
    SHOW(bind(t, (void *)&b, lb));
    SHOW(sendto(t, "hello", 5, 0, (void *)&a, la));
    SHOW(recvfrom(s, buf, sizeof buf, 0, (void *)&from, &len));
    CHECK(len == lb && memcmp(&from, &b, lb) == 0);
    SHOW(sendto(u, "nameless", 8, 0, (void *)&a, la));
    len = sizeof from;
    SHOW(recvfrom(s, buf, sizeof buf, 0, (void *)&from, &len));
    SHOW(len);
    SHOW(send(u, "x", 1, 0));
    SHOW(connect(u, (void *)&a, la));
    SHOW(send(u, "connected", 9, 0));
    SHOW(recv(s, buf, sizeof buf, 0));
    SHOW(connect(s, (void *)&b, lb)); /* now only b may send to s */
    SHOW(send(u, "x", 1, 0));
    SHOW(sendto(t, "x", 1, 0, (void *)&a, la));
    close(s);
    SHOW(send(u, "x", 1, 0));
    SHOW(sendto(t, "x", 1, 0, (void *)&a, la));
    int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
    SHOW(connect(c, (void *)&b, lb)); /* wrong type */
    sa_family_t unspec = AF_UNIX;
    SHOW(bind(l, (void *)&unspec, sizeof unspec)); /* autobind */
    len = sizeof from;
    SHOW(getsockname(l, (void *)&from, &len));
    printf("length %u first %d\n", len, from.sun_path[0]);
    SHOW(listen(l, 5));
    SHOW(connect(c, (void *)&from, len));
    close(l);
    close(c);
    int q = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    SHOW(connect(q, (void *)&from, len));
    return done();
}
