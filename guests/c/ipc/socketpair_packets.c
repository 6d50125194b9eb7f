// modes: static dynamic musl
// Datagram and seqpacket pairs keep borders, truncate, tell MSG_TRUNC and MSG_EOR, accept empty packets.
#include "../common.h"
#include <sys/socket.h>

static void packets(int type) {
    int s[2];
    char b[16] = {0};
    printf("type %d\n", type);
    SHOW(socketpair(AF_UNIX, type, 0, s));
    SHOW(send(s[0], "first", 5, 0));
    SHOW(send(s[0], "second packet", 13, 0));
    SHOW(send(s[0], "", 0, 0));
    SHOW(send(s[0], "last", 4, 0));
    SHOW(recv(s[1], b, 3, MSG_PEEK));
    SHOW(recv(s[1], b, sizeof b, 0));
    struct iovec v = {b, 6};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    SHOW(recvmsg(s[1], &m, 0));
    printf("%.6s truncated %d\n", b, !!(m.msg_flags & MSG_TRUNC));
    SHOW(recv(s[1], b, sizeof b, 0));
    SHOW(recv(s[1], b, 2, MSG_TRUNC));
    SHOW(recv(s[1], b, 1, MSG_DONTWAIT));
    static char big[1 << 20];
    SHOW(send(s[0], big, sizeof big, MSG_DONTWAIT));
    long n = 0;
    while (send(s[0], big, 1000, MSG_DONTWAIT) == 1000)
        n++;
    printf("full: %s\n", err_name(errno));
    CHECK(n >= 5);
    while (recv(s[1], big, sizeof big, MSG_DONTWAIT) == 1000)
        n--;
    SHOW(n);
    close(s[0]);
    SHOW(recv(s[1], b, 1, MSG_DONTWAIT));
    SHOW(send(s[1], "x", 1, MSG_NOSIGNAL));
    close(s[1]);
}

int main(void) {
    packets(SOCK_DGRAM);
    packets(SOCK_SEQPACKET);
    return done();
}
