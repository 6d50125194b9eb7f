// modes: static dynamic musl
// A stream of megabytes both ways between two processes: order, partial transfers, MSG_WAITALL, half close, timeouts.
#include "../common.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

enum { TOTAL = 5 << 20 };
static unsigned char pattern(size_t i) { return (unsigned char)(i * 31 + (i >> 9)); }

static void server(int l) {
    int s = accept(l, 0, 0);
    static unsigned char b[70000];
    size_t got = 0, bad = 0;
    for (;;) {
        ssize_t n = recv(s, b, got % 3 ? 1000 : sizeof b, 0);
        if (n <= 0) break;
        for (ssize_t i = 0; i < n; i++) bad += b[i] != pattern(got + i);
        got += n;
    }
    printf("server got %zu, %zu wrong\n", got, bad);
    size_t sent = 0;
    while (sent < TOTAL) {
        size_t n = TOTAL - sent < sizeof b ? TOTAL - sent : sizeof b;
        for (size_t i = 0; i < n; i++) b[i] = pattern(sent + i);
        struct iovec v[3] = {{b, 1}, {b + 1, n / 2}, {b + 1 + n / 2, n - 1 - n / 2}};
        ssize_t r = writev(s, v, 3);
        if (r <= 0) break;
        sent += r;
    }
    printf("server sent %zu\n", sent);
    close(s);
}

int main(void) {
    int l = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    SHOW(bind(l, (void *)&a, sizeof a));
    SHOW(listen(l, 1));
    SHOW(getsockname(l, (void *)&a, &len));
    pid_t p = fork();
    if (!p) {
        server(l);
        return 0;
    }
    close(l);
    int c = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect(c, (void *)&a, sizeof a));
    struct timeval tv = {0, 20000};
    SHOW(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    char one;
    SHOW(recv(c, &one, 1, 0));
    tv.tv_usec = 0;
    SHOW(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    static unsigned char b[100000];
    size_t sent = 0;
    fcntl(c, F_SETFL, O_NONBLOCK);
    while (sent < TOTAL) {
        size_t n = TOTAL - sent < sizeof b ? TOTAL - sent : sizeof b;
        for (size_t i = 0; i < n; i++) b[i] = pattern(sent + i);
        ssize_t r = send(c, b, n, 0);
        if (r < 0 && errno == EAGAIN) {
            struct pollfd f = {c, POLLOUT, 0};
            poll(&f, 1, -1);
            continue;
        }
        if (r <= 0) break;
        sent += r;
    }
    printf("client sent %zu\n", sent);
    /* Not shown: the server may say what it got before we could. */
    MUST(shutdown(c, SHUT_WR) == 0);
    fcntl(c, F_SETFL, 0);
    size_t got = 0, bad = 0;
    for (;;) {
        ssize_t n = recv(c, b, sizeof b, MSG_WAITALL);
        if (n <= 0) break;
        if (n < (ssize_t)sizeof b && got + n != TOTAL) printf("short %zd\n", n);
        for (ssize_t i = 0; i < n; i++) bad += b[i] != pattern(got + i);
        got += n;
    }
    int st;
    wait(&st);
    printf("client got %zu, %zu wrong, status %d\n", got, bad, st);
    return done();
}
