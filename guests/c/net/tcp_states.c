// modes: static dynamic musl
// TCP over the loopback in one process: names, states, readiness at every step, half close, reset.
#include "../common.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static void show_poll(const char *what, int fd) {
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
    poll(&p, 1, 200);
    printf("%s:%s%s%s%s%s%s\n", what, p.revents & POLLIN ? " IN" : "", p.revents & POLLOUT ? " OUT" : "",
           p.revents & POLLERR ? " ERR" : "", p.revents & POLLHUP ? " HUP" : "", p.revents & POLLRDHUP ? " RDHUP" : "",
           p.revents & POLLPRI ? " PRI" : "");
}
static int so_error(int fd) { int e = -1; socklen_t l = sizeof e; getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &l); return e; }
static int intopt(int fd, int level, int name) { int e = -7; socklen_t l = sizeof e; if (getsockopt(fd, level, name, &e, &l)) return -errno; return e; }
static struct sockaddr_in me(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return a;
}
static void settle(void) { usleep(30000); }

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    int l = socket(AF_INET, SOCK_STREAM, 0);
    show_poll("fresh", l);
    char b[100];
    SHOW(recv(l, b, 1, 0));
    SHOW(send(l, b, 1, 0));
    SHOW(accept(l, 0, 0));
    struct sockaddr_in a = me(0), n;
    socklen_t len = sizeof n;
    SHOW(getsockname(l, (void *)&n, &len));
    printf("%d %s %d\n", n.sin_family, inet_ntoa(n.sin_addr), ntohs(n.sin_port));
    SHOW(getpeername(l, (void *)&n, &len));
    SHOW(bind(l, (void *)&a, 4));
    a.sin_family = AF_UNIX; SHOW(bind(l, (void *)&a, sizeof a)); a.sin_family = AF_INET;
    a.sin_addr.s_addr = inet_addr("192.0.2.1"); SHOW(bind(l, (void *)&a, sizeof a)); a = me(0);
    SHOW(bind(l, (void *)&a, sizeof a));
    SHOW(bind(l, (void *)&a, sizeof a));
    SHOW(intopt(l, SOL_SOCKET, SO_ACCEPTCONN));
    SHOW(listen(l, 5));
    SHOW(intopt(l, SOL_SOCKET, SO_ACCEPTCONN));
    len = sizeof n;
    SHOW(getsockname(l, (void *)&n, &len));
    a = n;
    printf("%s port %s\n", inet_ntoa(n.sin_addr), n.sin_port ? "set" : "none");
    show_poll("listening", l);
    int l2 = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(bind(l2, (void *)&a, sizeof a));
    close(l2);
    int c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    long r = connect(c, (void *)&a, sizeof a);
    printf("connect: %s\n", r == 0 || errno == EINPROGRESS ? "started" : err_name(errno));
    settle(); show_poll("connected", c);
    settle();
    printf("so_error %d\n", so_error(c));
    r = connect(c, (void *)&a, sizeof a);
    SHOW(connect(c, (void *)&a, sizeof a));
    show_poll("listener", l);
    SHOW(ioctl(l, FIONREAD, &r));
    int s = accept4(l, (void *)&n, &len, SOCK_CLOEXEC);
    printf("accepted %d len %d %s\n", s > 0, len, inet_ntoa(n.sin_addr));
    SHOW(fcntl(s, F_GETFD));
    SHOW(fcntl(s, F_GETFL) & O_NONBLOCK);
    show_poll("listener after", l);
    struct sockaddr_in p;
    len = sizeof p;
    SHOW(getsockname(c, (void *)&p, &len));
    printf("same %d\n", p.sin_port == n.sin_port);
    SHOW(getpeername(s, (void *)&p, &len));
    printf("same %d\n", p.sin_port == n.sin_port);
    SHOW(recv(c, b, sizeof b, 0));
    SHOW(send(s, "hello world", 11, 0));
    show_poll("client", c);
    int q = 0;
    SHOW(ioctl(c, FIONREAD, &q));
    printf("queued %d\n", q);
    SHOW(recv(c, b, 5, MSG_PEEK));
    SHOW(recv(c, b, 6, MSG_TRUNC));
    memset(b, 0, sizeof b);
    SHOW(recv(c, b, sizeof b, 0));
    printf("%s\n", b);
    SHOW(recv(c, b, sizeof b, MSG_ERRQUEUE | MSG_DONTWAIT));
    SHOW(intopt(c, IPPROTO_TCP, TCP_NODELAY));
    int one = 1;
    SHOW(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    SHOW(intopt(c, IPPROTO_TCP, TCP_NODELAY));
    SHOW(intopt(c, SOL_SOCKET, SO_TYPE));
    SHOW(intopt(c, SOL_SOCKET, SO_DOMAIN));
    SHOW(intopt(c, SOL_SOCKET, SO_PROTOCOL));
    SHOW(intopt(c, SOL_SOCKET, 9999));
    SHOW(intopt(c, 77, 1));
    SHOW(setsockopt(c, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one));
    SHOW(intopt(c, SOL_SOCKET, SO_KEEPALIVE));
    int idle = 30;
    SHOW(setsockopt(c, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle));
    SHOW(intopt(c, IPPROTO_TCP, TCP_KEEPIDLE));
    SHOW(shutdown(c, SHUT_WR));
    SHOW(send(c, "x", 1, 0));
    show_poll("client half", c);
    show_poll("server half", s);
    SHOW(recv(s, b, sizeof b, 0));
    SHOW(recv(s, b, sizeof b, 0));
    SHOW(send(s, "back", 4, 0));
    SHOW(recv(c, b, sizeof b, MSG_WAITALL));
    SHOW(close(s));
    settle();
    show_poll("client both", c);
    SHOW(recv(c, b, sizeof b, 0));
    SHOW(close(c));

    /* Reset by unread data. */
    c = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect(c, (void *)&a, sizeof a));
    s = accept(l, 0, 0);
    SHOW(send(c, "unread", 6, 0));
    settle();
    close(s);
    settle();
    show_poll("reset", c);
    printf("so_error %s\n", err_name(so_error(c)));
    SHOW(recv(c, b, 1, 0));
    SHOW(send(c, b, 1, 0));
    close(c);
    /* Peer closed, then two writes. */
    c = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect(c, (void *)&a, sizeof a));
    s = accept(l, 0, 0);
    close(s);
    settle();
    show_poll("closed", c);
    SHOW(send(c, "1", 1, 0));
    settle();
    SHOW(send(c, "2", 1, 0));
    SHOW(recv(c, b, 1, 0));
    close(c);
    /* SO_LINGER 0 */
    c = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect(c, (void *)&a, sizeof a));
    s = accept(l, 0, 0);
    struct linger lg = {1, 0};
    SHOW(setsockopt(c, SOL_SOCKET, SO_LINGER, &lg, sizeof lg));
    close(c);
    settle();
    show_poll("lingered", s);
    SHOW(recv(s, b, 1, 0));
    SHOW(recv(s, b, 1, 0));
    close(s);
    /* Refused. */
    SHOW(close(l));
    c = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect(c, (void *)&a, sizeof a));
    close(c);
    c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    r = connect(c, (void *)&a, sizeof a);
    settle();
    show_poll("refused", c);
    printf("so_error %s\n", err_name(so_error(c)));
    printf("so_error %s\n", err_name(so_error(c)));
    show_poll("after", c);
    close(c);
    SHOW(socket(AF_INET, SOCK_SEQPACKET, 0));
    SHOW(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    SHOW(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
    SHOW(socket(99, SOCK_STREAM, 0));
    SHOW(socket(AF_INET, 77, 0));
    int sv[2];
    SHOW(socketpair(AF_INET, SOCK_STREAM, 0, sv));
    return done();
}
