/* Small helpers for the socket programs: loopback addresses, names of families, a listener on a free port. */
#ifndef FTL_NET_H
#define FTL_NET_H
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

static UNUSED struct sockaddr_in loop4(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}
static UNUSED struct sockaddr_in6 loop6(int port) {
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    a.sin6_addr.s6_addr[15] = 1;
    return a;
}
static UNUSED int port_of(int fd) {
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    MUST(getsockname(fd, (void *)&a, &len) == 0);
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port : ((struct sockaddr_in *)&a)->sin_port);
}
static UNUSED int listener4(void) {
    struct sockaddr_in a = loop4(0);
    int l = socket(AF_INET, SOCK_STREAM, 0);
    MUST(l >= 0 && bind(l, (void *)&a, sizeof a) == 0 && listen(l, 16) == 0);
    return l;
}
static UNUSED int dial4(int port) {
    struct sockaddr_in a = loop4(port);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    MUST(s >= 0 && connect(s, (void *)&a, sizeof a) == 0);
    return s;
}
static UNUSED bool wait_for(int fd, short events) {
    struct pollfd p = {fd, events, 0};
    return poll(&p, 1, 60000) == 1;
}
#endif
