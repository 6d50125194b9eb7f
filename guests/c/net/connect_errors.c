// modes: static dynamic musl
// Refused, in progress, already, is connected, not connected, bad addresses; SO_ERROR is read once.
#include "../common.h"
#include "../net.h"

int main(void) {
    int l = listener4(), port = port_of(l);
    struct sockaddr_in a = loop4(port), dead;
    socklen_t len;
    int probe = socket(AF_INET, SOCK_STREAM, 0), e;
    dead = loop4(0);
    MUST(bind(probe, (void *)&dead, sizeof dead) == 0);
    dead = loop4(port_of(probe)); /* bound but not listening */
    int c = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect(c, (void *)&dead, sizeof dead));
    SHOW(connect(c, (void *)&a, sizeof a)); /* a refused socket may try again */
    SHOW(connect(c, (void *)&a, sizeof a));
    int n = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int r = connect(n, (void *)&a, sizeof a);
    CHECK(r == 0 || errno == EINPROGRESS);
    CHECK(wait_for(n, POLLOUT));
    len = sizeof e;
    SHOW(getsockopt(n, SOL_SOCKET, SO_ERROR, &e, &len));
    SHOW(e);
    r = connect(n, (void *)&a, sizeof a);
    CHECK((r == 0) || errno == EISCONN);
    SHOW(write(n, "x", 1));
    int m = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    r = connect(m, (void *)&dead, sizeof dead);
    CHECK(r == -1 && (errno == EINPROGRESS || errno == ECONNREFUSED));
    if (errno == EINPROGRESS) {
        CHECK(wait_for(m, POLLOUT));
        struct pollfd p = {m, POLLIN | POLLOUT, 0};
        poll(&p, 1, 0);
        CHECK(p.revents & POLLERR && p.revents & POLLHUP);
        getsockopt(m, SOL_SOCKET, SO_ERROR, &e, &len);
    } else {
        CHECK(1);
        CHECK(1);
        e = ECONNREFUSED;
    }
    printf("%s\n", err_name(e));
    SHOW(getsockopt(m, SOL_SOCKET, SO_ERROR, &e, &len));
    SHOW(e);
    int f = socket(AF_INET, SOCK_STREAM, 0);
    char b[4];
    SHOW(send(f, "x", 1, MSG_NOSIGNAL));
    SHOW(recv(f, b, 1, 0));
    SHOW(shutdown(f, SHUT_RDWR));
    SHOW(accept(f, NULL, NULL));
    SHOW(connect(f, (void *)&a, 4));
    a.sin_family = 99;
    SHOW(connect(f, (void *)&a, sizeof a));
    SHOW(connect(0, (void *)&a, sizeof a));
    SHOW(connect(99, (void *)&a, sizeof a));
    SHOW(connect(l, (void *)&dead, sizeof dead));
    SHOW(socket(AF_INET, 99, 0));
    SHOW(socket(99, SOCK_STREAM, 0));
    SHOW(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    SHOW(socket(AF_INET, SOCK_STREAM | 0x100000, 0));
    return done();
}
