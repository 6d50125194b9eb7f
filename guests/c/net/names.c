// modes: static dynamic musl
// getsockname and getpeername on each side, accept's address, lengths that are too short.
#include "../common.h"
#include "../net.h"

int main(void) {
    int l = listener4(), c = dial4(port_of(l));
    struct sockaddr_in a, b;
    socklen_t len = sizeof a;
    int s = accept(l, (void *)&a, &len);
    SHOW(len);
    CHECK(a.sin_family == AF_INET && a.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && a.sin_port == htons(port_of(c)));
    len = sizeof b;
    SHOW(getpeername(c, (void *)&b, &len));
    CHECK(b.sin_port == htons(port_of(l)) && len == sizeof b);
    len = sizeof b;
    SHOW(getpeername(s, (void *)&b, &len));
    CHECK(b.sin_port == a.sin_port);
    CHECK(port_of(s) == port_of(l));
    len = 3;
    SHOW(getsockname(c, (void *)&b, &len));
    SHOW(len);
    len = sizeof b;
    SHOW(getpeername(l, (void *)&b, &len));
    SHOW(getsockname(0, (void *)&b, &len));
    SHOW(getsockname(99, (void *)&b, &len));
    len = -1;
    SHOW(getsockname(c, (void *)&b, &len));
    int fresh = socket(AF_INET, SOCK_STREAM, 0);
    len = sizeof b;
    SHOW(getsockname(fresh, (void *)&b, &len));
    printf("port %d address %x\n", b.sin_port, b.sin_addr.s_addr);
    SHOW(getpeername(fresh, (void *)&b, &len));
    return done();
}
