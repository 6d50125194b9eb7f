// modes: static dynamic musl
// A connection on the loopback is in progress at first, whoever is there; then connect() says how it went, once, and goes on from there.
#include "../common.h"
#include "../net.h"

static int fresh(void) { return socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); }

static void again(int fd, struct sockaddr_in *to, int times) {
    while (times--)
        SHOW(connect(fd, (void *)to, sizeof *to));
}

int main(void) {
    int l = listener4(), e;
    struct sockaddr_in a = loop4(port_of(l)), dead = loop4(0);
    socklen_t len = sizeof e;
    /* Bound and not listening: nobody else gets that port. */
    int probe = socket(AF_INET, SOCK_STREAM, 0);
    MUST(bind(probe, (void *)&dead, sizeof dead) == 0);
    dead = loop4(port_of(probe));

    int c = fresh();
    again(c, &a, 1);
    CHECK(wait_for(c, POLLOUT));
    again(c, &a, 3);
    SHOW(getsockopt(c, SOL_SOCKET, SO_ERROR, &e, &len));
    SHOW(e);
    int s = accept(l, NULL, NULL);
    CHECK(s >= 0);
    MUST(write(c, "x", 1) == 1);
    char b[2];
    SHOW(read(s, b, 2));

    /* The error is read by getsockopt(), or told by connect(). */
    int d = fresh();
    again(d, &dead, 1);
    CHECK(wait_for(d, POLLOUT));
    SHOW(getsockopt(d, SOL_SOCKET, SO_ERROR, &e, &len));
    printf("%s\n", err_name(e));
    again(d, &dead, 2);
    CHECK(wait_for(d, POLLOUT));
    again(d, &dead, 1);
    int f = fresh();
    again(f, &dead, 1);
    CHECK(wait_for(f, POLLOUT));
    again(f, &dead, 2);
    CHECK(wait_for(f, POLLOUT));
    again(f, &dead, 1);
    /* and then it can still be connected */
    again(f, &a, 1);
    CHECK(wait_for(f, POLLOUT));
    again(f, &a, 2);

    /* A socket that may wait is connected when connect() returns. */
    int w = socket(AF_INET, SOCK_STREAM, 0);
    again(w, &a, 2);
    return done();
}
