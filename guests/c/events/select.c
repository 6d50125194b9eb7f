// modes: static dynamic musl
// select and pselect: sets in and out, timeouts and what is left, errors.
#include "../common.h"
#include <sys/select.h>

int main(void) {
    int p[2], q[2];
    MUST(pipe(p) == 0 && pipe(q) == 0);
    fd_set r, w, e;
    FD_ZERO(&r); FD_ZERO(&w); FD_ZERO(&e);
    FD_SET(p[0], &r); FD_SET(q[0], &r); FD_SET(p[1], &w); FD_SET(p[0], &e);
    struct timeval t = {0, 0};
    SHOW(select(20, &r, &w, &e, &t));
    printf("%d %d %d %d\n", FD_ISSET(p[0], &r), FD_ISSET(q[0], &r), FD_ISSET(p[1], &w), FD_ISSET(p[0], &e));
    MUST(write(q[1], "x", 1) == 1);
    FD_SET(p[0], &r); FD_SET(q[0], &r);
    SHOW(select(20, &r, &w, NULL, NULL));
    printf("%d %d\n", FD_ISSET(p[0], &r), FD_ISSET(q[0], &r));
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    t = (struct timeval){0, 4000};
    SHOW(select(20, &r, NULL, NULL, &t));
    SHOW(t.tv_usec);
    CHECK(!FD_ISSET(p[0], &r));
    FD_SET(q[0], &r);
    t = (struct timeval){100, 0};
    SHOW(select(20, &r, NULL, NULL, &t));
    CHECK(t.tv_sec >= 50 && t.tv_sec <= 100); /* however busy the machine is */
    FD_ZERO(&r);
    FD_SET(60, &r); /* not beyond the size of a small table: that is not even looked at */
    SHOW(select(61, &r, NULL, NULL, &(struct timeval){0, 0}));
    SHOW(select(-1, NULL, NULL, NULL, &t));
    t = (struct timeval){-1, 0};
    SHOW(select(0, NULL, NULL, NULL, &t));
    SHOW(syscall(SYS_select, 10, BAD, NULL, NULL, NULL));
    t = (struct timeval){0, 1000};
    SHOW(select(0, NULL, NULL, NULL, &t));
    struct timespec ts = {0, 1000000};
    SHOW(pselect(0, NULL, NULL, NULL, &ts, NULL));
    CHECK(ts.tv_nsec == 1000000);
    FD_ZERO(&r);
    FD_SET(q[0], &r);
    SHOW(select(q[0], &r, NULL, NULL, &(struct timeval){0, 0})); /* nfds leaves it out */
    close(q[1]);
    char c;
    MUST(read(q[0], &c, 1) == 1);
    FD_ZERO(&r);
    FD_SET(q[0], &r);
    SHOW(select(20, &r, NULL, NULL, &(struct timeval){0, 0})); /* end of file is readable */
    return done();
}
