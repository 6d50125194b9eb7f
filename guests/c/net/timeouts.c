// modes: static dynamic musl
// SO_RCVTIMEO and SO_SNDTIMEO end waits with EAGAIN after their time; accept and connect heed them.
#include "../common.h"
#include "../net.h"

int main(void) {
    int l = listener4(), c = dial4(port_of(l)), s = accept(l, NULL, NULL);
    struct timeval t = {0, 50000};
    char b[8];
    MUST(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
    int64_t start = now_ns(CLOCK_MONOTONIC);
    SHOW(recv(c, b, 1, 0));
    CHECK(now_ns(CLOCK_MONOTONIC) - start >= 20000000);
    SHOW(read(c, b, 1));
    MUST(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
    SHOW(accept(l, NULL, NULL));
    MUST(setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t) == 0);
    static char big[1 << 20];
    ssize_t n;
    long total = 0;
    while ((n = write(s, big, sizeof big)) > 0)
        total += n;
    printf("full: %s\n", err_name(errno));
    CHECK(total > 0);
    MUST(write(s, "", 0) == 0);
    SHOW(recv(c, b, 8, 0));
    return done();
}
