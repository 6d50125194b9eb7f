// modes: static dynamic musl
// 1,000 pipes in one epoll, all ready in turns of sixteen, each reported exactly once per write in edge mode.
#include "../common.h"
#include <sys/epoll.h>

int main(void) {
    enum { N = 1000 };
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max < 4096 ? r.rlim_max : 4096;
    MUST(setrlimit(RLIMIT_NOFILE, &r) == 0);
    static int p[N][2];
    static int seen[N];
    int ep = epoll_create1(0);
    for (int i = 0; i < N; i++) {
        MUST(pipe(p[i]) == 0);
        /* All of a user's pipes share a limit, those of other programs too (pipe(7)). */
        fcntl(p[i][1], F_SETPIPE_SZ, 4096);
        struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u32 = (unsigned)i};
        MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[i][0], &e) == 0);
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i += round + 1)
            MUST(write(p[i][1], "x", 1) == 1);
        struct epoll_event ev[16];
        int total = 0, n;
        while ((n = epoll_wait(ep, ev, 16, 0)) > 0) {
            total += n;
            for (int k = 0; k < n; k++)
                seen[ev[k].data.u32]++;
        }
        SHOW(total);
    }
    int wrong = 0;
    for (int i = 0; i < N; i++)
        wrong += seen[i] != 1 + (i % 2 == 0) + (i % 3 == 0);
    SHOW(wrong);
    return done();
}
