// modes: static dynamic musl
// needs: ipv6
// IPv6 on ::1, a dual-stack listener that IPv4 reaches as a mapped address, V6ONLY beside an IPv4 socket on one port.
#include "../common.h"
#include "../net.h"

int main(void) {
    int l = socket(AF_INET6, SOCK_STREAM, 0), off = 0, on = 1;
    struct sockaddr_in6 a = {.sin6_family = AF_INET6}, peer;
    socklen_t len = sizeof peer;
    char text[64], b[8] = {0};
    SHOW(setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
    SHOW(bind(l, (void *)&a, sizeof a));
    SHOW(listen(l, 5));
    int port = port_of(l), c = dial4(port), s = accept(l, (void *)&peer, &len);
    SHOW(len);
    puts(inet_ntop(AF_INET6, &peer.sin6_addr, text, sizeof text));
    SHOW(write(c, "over4", 5));
    SHOW(recv(s, b, 5, MSG_WAITALL));
    int c6 = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 to = loop6(port);
    SHOW(connect(c6, (void *)&to, sizeof to));
    len = sizeof peer;
    s = accept(l, (void *)&peer, &len);
    puts(inet_ntop(AF_INET6, &peer.sin6_addr, text, sizeof text));
    SHOW(write(s, "over6", 5));
    SHOW(recv(c6, b, 5, MSG_WAITALL));
    int only = socket(AF_INET6, SOCK_STREAM, 0), four = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(setsockopt(only, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
    struct sockaddr_in6 o = loop6(0);
    MUST(bind(only, (void *)&o, sizeof o) == 0);
    struct sockaddr_in f = loop4(port_of(only));
    /* The same port is free for IPv4, unless somebody else on the host has it. */
    while (bind(four, (void *)&f, sizeof f) != 0) {
        MUST(errno == EADDRINUSE);
        close(only);
        only = socket(AF_INET6, SOCK_STREAM, 0);
        MUST(setsockopt(only, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0 && bind(only, (void *)&o, sizeof o) == 0);
        f = loop4(port_of(only));
    }
    len = sizeof on;
    SHOW(getsockopt(only, IPPROTO_IPV6, IPV6_V6ONLY, &on, &len));
    SHOW(on);
    int u = socket(AF_INET6, SOCK_DGRAM, 0), w = socket(AF_INET6, SOCK_DGRAM, 0);
    struct sockaddr_in6 ua = loop6(0);
    SHOW(bind(u, (void *)&ua, sizeof ua));
    ua = loop6(port_of(u));
    SHOW(sendto(w, "datagram", 8, 0, (void *)&ua, sizeof ua));
    SHOW(recv(u, text, sizeof text, 0));
    SHOW(connect(w, (void *)&f, sizeof f));
    return done();
}
