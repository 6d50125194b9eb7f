// modes: static dynamic musl
// Control messages of UDP: where a datagram was sent to (IP_PKTINFO, IPV6_PKTINFO), its TTL and TOS,
// and the source address, TTL, TOS and segments that a sender asks for. ip(7), ipv6(7), udp(7).
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

static void die(const char *what) {
    printf("%s: %s\n", what, strerror(errno));
    exit(1);
}

static void on(int fd, int level, int name) {
    int one = 5, got = -1;
    socklen_t len = sizeof got;
    if (setsockopt(fd, level, name, &one, sizeof one))
        die("setsockopt");
    if (getsockopt(fd, level, name, &got, &len))
        die("getsockopt");
    printf("option %d.%d: %d, %d bytes\n", level, name, got, (int)len);
}

// Receives one datagram and prints what came with it.
static void take(int fd, size_t room) {
    char data[64] = "";
    union {
        struct cmsghdr head;
        char bytes[256];
    } control;
    memset(&control, 0, sizeof control);
    struct iovec iov = {data, sizeof data - 1};
    struct sockaddr_storage from;
    // By name: musl's has padding between its members.
    struct msghdr m = {
        .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = control.bytes, .msg_controllen = room,
    };
    ssize_t n = recvmsg(fd, &m, 0);
    if (n < 0)
        die("recvmsg");
    char text[INET6_ADDRSTRLEN];
    if (from.ss_family == AF_INET)
        inet_ntop(AF_INET, &((struct sockaddr_in *)&from)->sin_addr, text, sizeof text);
    else
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&from)->sin6_addr, text, sizeof text);
    printf("%zd bytes %s from %s%s", n, data, text, m.msg_flags & MSG_CTRUNC ? ", control cut" : "");
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        int value = 0;
        printf("; %d.%d %d", c->cmsg_level, c->cmsg_type, (int)(c->cmsg_len - CMSG_LEN(0)));
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo p;
            memcpy(&p, CMSG_DATA(c), sizeof p);
            printf(" interface %d", p.ipi_ifindex);
            printf(" to %s", inet_ntop(AF_INET, &p.ipi_addr, text, sizeof text));
            printf(" here %s", inet_ntop(AF_INET, &p.ipi_spec_dst, text, sizeof text));
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo p;
            memcpy(&p, CMSG_DATA(c), sizeof p);
            printf(" interface %d", p.ipi6_ifindex);
            printf(" to %s", inet_ntop(AF_INET6, &p.ipi6_addr, text, sizeof text));
        } else if (c->cmsg_len == CMSG_LEN(1)) {
            printf(" value %d", *CMSG_DATA(c));
        } else {
            memcpy(&value, CMSG_DATA(c), sizeof value);
            printf(" value %d", value);
        }
    }
    printf("\n");
}

static void give(int fd, const struct sockaddr *to, socklen_t len, const char *text, int level, int type, const void *data, size_t size) {
    union {
        struct cmsghdr head;
        char bytes[64];
    } control;
    memset(&control, 0, sizeof control);
    control.head.cmsg_level = level;
    control.head.cmsg_type = type;
    control.head.cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(&control.head), data, size);
    struct iovec iov = {(void *)text, strlen(text)};
    struct msghdr m = {
        .msg_name = (void *)to, .msg_namelen = len, .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = control.bytes, .msg_controllen = CMSG_SPACE(size),
    };
    ssize_t n = sendmsg(fd, &m, 0);
    printf("sent with %d.%d of %zu: %s\n", level, type, size, n < 0 ? strerror(errno) : n == (ssize_t)strlen(text) ? "all" : "part");
}

static void v4(void) {
    struct sockaddr_in any = {.sin_family = AF_INET}, to;
    socklen_t len = sizeof to;
    int rx = socket(AF_INET, SOCK_DGRAM, 0), tx = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(rx, (struct sockaddr *)&any, sizeof any) || getsockname(rx, (struct sockaddr *)&to, &len))
        die("bind");
    to.sin_addr.s_addr = htonl(0x7f000002);
    const struct sockaddr *dest = (struct sockaddr *)&to;
    on(rx, IPPROTO_IP, IP_PKTINFO);
    sendto(tx, "info", 4, 0, dest, sizeof to);
    take(rx, 256);
    on(rx, IPPROTO_IP, IP_RECVTTL);
    on(rx, IPPROTO_IP, IP_RECVTOS);
    sendto(tx, "all", 3, 0, dest, sizeof to);
    take(rx, 256);
    sendto(tx, "short", 5, 0, dest, sizeof to);
    take(rx, 20);
    sendto(tx, "none", 4, 0, dest, sizeof to);
    take(rx, 0);
    int ttl = 9, tos = 0x10;
    if (setsockopt(tx, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl) || setsockopt(tx, IPPROTO_IP, IP_TOS, &tos, sizeof tos))
        die("setsockopt");
    sendto(tx, "mine", 4, 0, dest, sizeof to);
    take(rx, 256);
    ttl = 33;
    give(tx, dest, sizeof to, "ttl", IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);
    take(rx, 256);
    tos = 8;
    give(tx, dest, sizeof to, "tos", IPPROTO_IP, IP_TOS, &tos, sizeof tos);
    take(rx, 256);
    struct in_pktinfo p = {.ipi_spec_dst.s_addr = htonl(0x7f000003)};
    give(tx, dest, sizeof to, "source", IPPROTO_IP, IP_PKTINFO, &p, sizeof p);
    take(rx, 256);
    unsigned short segment = 4;
    give(tx, dest, sizeof to, "aaaabbbbcc", IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
    take(rx, 256);
    take(rx, 256);
    take(rx, 256);
    int each = 3;
    if (setsockopt(tx, IPPROTO_UDP, UDP_SEGMENT, &each, sizeof each))
        die("UDP_SEGMENT");
    sendto(tx, "dddee", 5, 0, dest, sizeof to);
    take(rx, 256);
    take(rx, 256);
    each = 0;
    setsockopt(tx, IPPROTO_UDP, UDP_SEGMENT, &each, sizeof each);
    int fd = 0;
    give(tx, dest, sizeof to, "ignored", SOL_SOCKET, SCM_RIGHTS, &fd, sizeof fd);
    take(rx, 256);
    give(tx, dest, sizeof to, "x", SOL_SOCKET, 9999, &fd, sizeof fd);
    give(tx, dest, sizeof to, "x", IPPROTO_IP, IP_PKTINFO, &p, 4);
    ttl = 300;
    give(tx, dest, sizeof to, "x", IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);
    give(tx, dest, sizeof to, "x", IPPROTO_IP, 99, &ttl, sizeof ttl);
    give(tx, dest, sizeof to, "x", IPPROTO_UDP, UDP_SEGMENT, &ttl, sizeof ttl);
    int zero = 0;
    setsockopt(rx, IPPROTO_IP, IP_PKTINFO, &zero, sizeof zero);
    sendto(tx, "off", 3, 0, dest, sizeof to);
    take(rx, 256);
    close(rx);
    close(tx);
}

static void v6(void) {
    struct sockaddr_in6 any = {.sin6_family = AF_INET6}, to;
    socklen_t len = sizeof to;
    int rx = socket(AF_INET6, SOCK_DGRAM, 0), tx = socket(AF_INET6, SOCK_DGRAM, 0);
    if (bind(rx, (struct sockaddr *)&any, sizeof any) || getsockname(rx, (struct sockaddr *)&to, &len))
        die("bind");
    to.sin6_addr = in6addr_loopback;
    const struct sockaddr *dest = (struct sockaddr *)&to;
    on(rx, IPPROTO_IPV6, IPV6_RECVPKTINFO);
    on(rx, IPPROTO_IPV6, IPV6_RECVHOPLIMIT);
    on(rx, IPPROTO_IPV6, IPV6_RECVTCLASS);
    sendto(tx, "all", 3, 0, dest, sizeof to);
    take(rx, 256);
    int hops = 7, class = 0x20;
    give(tx, dest, sizeof to, "hops", IPPROTO_IPV6, IPV6_HOPLIMIT, &hops, sizeof hops);
    take(rx, 256);
    give(tx, dest, sizeof to, "class", IPPROTO_IPV6, IPV6_TCLASS, &class, sizeof class);
    take(rx, 256);
    struct in6_pktinfo p = {.ipi6_addr = in6addr_loopback};
    give(tx, dest, sizeof to, "source", IPPROTO_IPV6, IPV6_PKTINFO, &p, sizeof p);
    take(rx, 256);
    give(tx, dest, sizeof to, "x", IPPROTO_IPV6, IPV6_PKTINFO, &p, 4);
    hops = 256;
    give(tx, dest, sizeof to, "x", IPPROTO_IPV6, IPV6_HOPLIMIT, &hops, sizeof hops);
    // An IPv4 datagram at an IPv6 socket.
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = to.sin6_port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int old = socket(AF_INET, SOCK_DGRAM, 0);
    sendto(old, "four", 4, 0, (struct sockaddr *)&four, sizeof four);
    take(rx, 256);
    close(old);
    close(rx);
    close(tx);
}

// The source address of what has none of its own, to any address of the loopback.
static void sources(void) {
    struct sockaddr_in any = {.sin_family = AF_INET}, to, here;
    socklen_t len = sizeof to;
    int listener = socket(AF_INET, SOCK_STREAM, 0), stream = socket(AF_INET, SOCK_STREAM, 0);
    int tx = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 1) || getsockname(listener, (struct sockaddr *)&to, &len))
        die("listen");
    to.sin_addr.s_addr = htonl(0x7f000002);
    if (connect(stream, (struct sockaddr *)&to, sizeof to) || connect(tx, (struct sockaddr *)&to, sizeof to))
        die("connect");
    int conn = accept(listener, (struct sockaddr *)&here, &len);
    printf("accepted from %s", inet_ntoa(here.sin_addr));
    getsockname(conn, (struct sockaddr *)&here, &len);
    printf(" at %s", inet_ntoa(here.sin_addr));
    getsockname(stream, (struct sockaddr *)&here, &len);
    printf(", stream %s", inet_ntoa(here.sin_addr));
    getsockname(tx, (struct sockaddr *)&here, &len);
    printf(", datagrams %s\n", inet_ntoa(here.sin_addr));
    close(conn);
    close(stream);
    close(listener);
    close(tx);
}

int main(void) {
    v4();
    sources();
    v6();
    return 0;
}
