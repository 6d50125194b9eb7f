// modes: static dynamic musl
// SOL_SOCKET options of UNIX sockets: values as stored, sizes, errors, receive and send timeouts.
#include "../common.h"
#include <sys/socket.h>

static void get(int fd, const char *what, int name) {
    int v[4] = {-7, -7, -7, -7};
    socklen_t l = sizeof v;
    if (getsockopt(fd, SOL_SOCKET, name, v, &l) < 0)
        printf("%s: %s\n", what, err_name(errno));
    else
        printf("%s: %d %d length %u\n", what, v[0], l > 4 ? v[1] : 0, l);
}

#define GET(fd, n) get(fd, #n, n)

int main(void) {
    int s[2], v;
    socklen_t l;
    char b[4];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    GET(s[0], SO_TYPE);
    GET(s[0], SO_DOMAIN);
    GET(s[0], SO_PROTOCOL);
    GET(s[0], SO_ERROR);
    GET(s[0], SO_ACCEPTCONN);
    GET(s[0], SO_SNDBUF);
    GET(s[0], SO_RCVBUF);
    GET(s[0], SO_REUSEADDR);
    GET(s[0], SO_KEEPALIVE);
    GET(s[0], SO_BROADCAST);
    GET(s[0], SO_PRIORITY);
    GET(s[0], SO_LINGER);
    GET(s[0], SO_PASSCRED);
    GET(s[0], SO_RCVLOWAT);
    GET(s[0], SO_SNDLOWAT);
    GET(s[0], SO_RCVTIMEO);
    GET(s[0], 9999);
    for (int want = 0; want < 3; want++) {
        v = (int[]){1, 20000, 100000}[want];
        SHOW(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, sizeof v));
        SHOW(setsockopt(s[0], SOL_SOCKET, SO_RCVBUF, &v, sizeof v));
        GET(s[0], SO_SNDBUF);
        GET(s[0], SO_RCVBUF);
    }
    v = 5;
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_REUSEADDR, &v, sizeof v));
    GET(s[0], SO_REUSEADDR);
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_REUSEADDR, &v, 2));
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_REUSEADDR, BAD, sizeof v));
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_TYPE, &v, sizeof v));
    SHOW(setsockopt(s[0], SOL_SOCKET, 9999, &v, sizeof v));
    SHOW(setsockopt(s[0], 77, 1, &v, sizeof v));
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_REUSEADDR, &v, -1));
    struct linger lg = {1, 9};
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &lg, sizeof lg));
    GET(s[0], SO_LINGER);
    l = 2;
    v = -1;
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &v, &l));
    printf("%x %u\n", v, l);
    l = -1;
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &v, &l));
    SHOW(getsockopt(0, SOL_SOCKET, SO_TYPE, &v, &l));

    struct timeval t = {0, 30000};
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
    memset(&t, 0, sizeof t);
    l = sizeof t;
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, &l));
    printf("%ld %ld %u\n", (long)t.tv_sec, (long)t.tv_usec, l);
    /* Slack for a busy machine: one that does not end is what is looked for. They count jiffies, which lag behind where the CPU that counts stands still. */
    int64_t from = now_ns(CLOCK_MONOTONIC);
    SHOW(recv(s[0], b, 1, 0));
    int64_t took = now_ns(CLOCK_MONOTONIC) - from;
    CHECK(took >= 10000000 && took < 15000000000);
    from = now_ns(CLOCK_MONOTONIC);
    SHOW(read(s[0], b, 1));
    took = now_ns(CLOCK_MONOTONIC) - from;
    CHECK(took >= 10000000 && took < 15000000000);
    static char big[1 << 20];
    from = now_ns(CLOCK_MONOTONIC);
    SHOW(send(s[0], big, sizeof big, 0) > 0);
    SHOW(send(s[0], big, sizeof big, 0));
    took = now_ns(CLOCK_MONOTONIC) - from;
    CHECK(took >= 20000000 && took < 15000000000);
    SHOW(recv(s[1], b, 4, MSG_WAITALL));
    t = (struct timeval){0, 1000000};
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    t = (struct timeval){-1, 0};
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    SHOW(recv(s[0], b, 1, 0));
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, 8));
    return done();
}
