/* kcmp(2): what epoll watches, I/O contexts, undo lists. */
#include "../common.h"
#include <sys/epoll.h>
struct slot { uint32_t efd, tfd, toff; };

int main(void) {
    int ep = epoll_create1(0), p[2];
    MUST(ep >= 0 && pipe(p) == 0);
    struct epoll_event e = {EPOLLIN, {0}};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e) == 0);
    pid_t me = getpid();
    struct slot s = {ep, p[0], 0};
    SHOW(syscall(SYS_kcmp, me, me, 7, p[0], &s));
    CHECK(syscall(SYS_kcmp, me, me, 7, p[1], &s) > 0);
    s.toff = 1;
    SHOW(syscall(SYS_kcmp, me, me, 7, p[0], &s));
    s = (struct slot){p[0], p[0], 0};
    SHOW(syscall(SYS_kcmp, me, me, 7, p[0], &s));
    s = (struct slot){99, p[0], 0};
    SHOW(syscall(SYS_kcmp, me, me, 7, p[0], &s));
    SHOW(syscall(SYS_kcmp, me, me, 7, p[0], NULL));
    SHOW(syscall(SYS_kcmp, me, me, 5, 0, 0));
    SHOW(syscall(SYS_kcmp, me, me, 6, 0, 0));
    SHOW(syscall(SYS_kcmp, me, me, 8, 0, 0));
    struct rusage a, b;
    getrusage(RUSAGE_SELF, &a);
    for (int i = 0; i < 5; i++)
        usleep(2000);
    getrusage(RUSAGE_SELF, &b);
    CHECK(b.ru_nvcsw - a.ru_nvcsw >= 5);
    return done();
}
