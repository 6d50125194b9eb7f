// modes: static dynamic musl
// Socket options as programs set and read them: values, sizes, levels and refusals.
#include "../common.h"
#include "../net.h"

static void get(int fd, const char *name, int level, int opt, bool value) {
    int v = -1;
    socklen_t len = sizeof v;
    if (getsockopt(fd, level, opt, &v, &len))
        printf("%s: %s\n", name, err_name(errno));
    else if (value)
        printf("%s = %d (%u)\n", name, v, len);
    else
        printf("%s (%u)\n", name, len);
}
#define GET(fd, level, opt) get(fd, #opt, level, opt, true)
#define SIZE(fd, level, opt) get(fd, #opt, level, opt, false)
static int set(int fd, int level, int opt, int v) { return setsockopt(fd, level, opt, &v, sizeof v); }

int main(void) {
    int l = listener4(), s = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0);
    GET(s, SOL_SOCKET, SO_TYPE);
    GET(u, SOL_SOCKET, SO_TYPE);
    GET(s, SOL_SOCKET, SO_DOMAIN);
    GET(s, SOL_SOCKET, SO_PROTOCOL);
    GET(u, SOL_SOCKET, SO_PROTOCOL);
    GET(s, SOL_SOCKET, SO_ACCEPTCONN);
    GET(l, SOL_SOCKET, SO_ACCEPTCONN);
    GET(s, SOL_SOCKET, SO_ERROR);
    const int flags[] = {SO_REUSEADDR, SO_KEEPALIVE, SO_BROADCAST, SO_REUSEPORT, SO_OOBINLINE, SO_DONTROUTE, SO_TIMESTAMP};
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        char name[16];
        snprintf(name, sizeof name, "flag %d", flags[i]);
        get(u, name, SOL_SOCKET, flags[i], true);
        SHOW(set(u, SOL_SOCKET, flags[i], 5));
        get(u, name, SOL_SOCKET, flags[i], true);
    }
    SHOW(set(s, SOL_SOCKET, SO_SNDBUF, 40000));
    GET(s, SOL_SOCKET, SO_SNDBUF);
    SHOW(set(s, SOL_SOCKET, SO_RCVBUF, 50000));
    GET(s, SOL_SOCKET, SO_RCVBUF);
    SHOW(set(s, SOL_SOCKET, SO_RCVBUF, 1));
    SIZE(s, SOL_SOCKET, SO_RCVBUF);
    SHOW(set(s, SOL_SOCKET, SO_PRIORITY, 3));
    GET(s, SOL_SOCKET, SO_PRIORITY);
    SHOW(set(s, SOL_SOCKET, SO_RCVLOWAT, 10));
    GET(s, SOL_SOCKET, SO_RCVLOWAT);
    GET(s, IPPROTO_TCP, TCP_NODELAY);
    SHOW(set(s, IPPROTO_TCP, TCP_NODELAY, 1));
    GET(s, IPPROTO_TCP, TCP_NODELAY);
    SHOW(set(s, IPPROTO_TCP, TCP_KEEPIDLE, 77));
    GET(s, IPPROTO_TCP, TCP_KEEPIDLE);
    SHOW(set(s, IPPROTO_TCP, TCP_KEEPINTVL, 7));
    GET(s, IPPROTO_TCP, TCP_KEEPINTVL);
    SHOW(set(s, IPPROTO_TCP, TCP_KEEPCNT, 3));
    GET(s, IPPROTO_TCP, TCP_KEEPCNT);
    SHOW(set(s, IPPROTO_TCP, TCP_USER_TIMEOUT, 1000));
    GET(s, IPPROTO_TCP, TCP_USER_TIMEOUT);
    SHOW(set(s, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1));
    SHOW(set(s, IPPROTO_TCP, TCP_CORK, 1));
    GET(s, IPPROTO_TCP, TCP_CORK);
    SHOW(set(s, IPPROTO_TCP, TCP_QUICKACK, 1));
    SHOW(set(s, IPPROTO_TCP, TCP_KEEPIDLE, 0));
    SHOW(set(s, IPPROTO_IP, IP_TOS, 16));
    GET(s, IPPROTO_IP, IP_TOS);
    SHOW(set(s, IPPROTO_IP, IP_TTL, 33));
    GET(s, IPPROTO_IP, IP_TTL);
    SHOW(set(s, IPPROTO_IP, IP_TTL, 999));
    struct timeval t = {1, 500000}, back;
    socklen_t len = sizeof back;
    SHOW(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    SHOW(getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &back, &len));
    printf("%ld.%06ld\n", (long)back.tv_sec, (long)back.tv_usec);
    SHOW(set(s, SOL_SOCKET, 9999, 1));
    SHOW(set(s, 9999, 1, 1));
    SHOW(set(s, IPPROTO_TCP, 9999, 1));
    SHOW(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, "x", 1));
    SHOW(set(0, SOL_SOCKET, SO_KEEPALIVE, 1));
    SHOW(set(99, SOL_SOCKET, SO_KEEPALIVE, 1));
    char small;
    len = 1;
    SHOW(getsockopt(s, SOL_SOCKET, SO_TYPE, &small, &len));
    SHOW(len);
    struct tcp_info ti;
    len = sizeof ti;
    int c = dial4(port_of(l));
    SHOW(getsockopt(c, IPPROTO_TCP, TCP_INFO, &ti, &len));
    SHOW(ti.tcpi_state);
    return done();
}
