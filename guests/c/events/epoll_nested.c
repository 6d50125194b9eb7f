// modes: static dynamic musl
// epoll in epoll, poll on an epoll, loops refused with ELOOP, depth limited.
#include "../common.h"
#include <poll.h>
#include <sys/epoll.h>

static int add(int ep, int fd) {
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = 7};
    return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}

int main(void) {
    int p[2], a = epoll_create1(0), b = epoll_create1(0), c = epoll_create1(0);
    MUST(pipe(p) == 0);
    SHOW(add(a, p[0]));
    SHOW(add(b, a));
    struct epoll_event ev;
    struct pollfd pf = {b, POLLIN, 0};
    SHOW(epoll_wait(b, &ev, 1, 0));
    SHOW(poll(&pf, 1, 0));
    MUST(write(p[1], "x", 1) == 1);
    SHOW(epoll_wait(b, &ev, 1, 0));
    SHOW(ev.events);
    SHOW(poll(&pf, 1, 0));
    SHOW(pf.revents);
    SHOW(epoll_wait(a, &ev, 1, 0));
    SHOW(add(a, b));
    SHOW(add(c, b));
    SHOW(add(a, c));
    SHOW(add(a, a));
    int chain[8];
    chain[0] = epoll_create1(0);
    int deepest = 0;
    for (int i = 1; i < 8; i++) {
        chain[i] = epoll_create1(0);
        if (add(chain[i], chain[i - 1]) == -1) {
            printf("depth %d: %s\n", i, err_name(errno));
            break;
        }
        deepest = i;
    }
    SHOW(deepest);
    char ch;
    MUST(read(p[0], &ch, 1) == 1);
    pid_t k = fork();
    if (k == 0) {
        sleep_ms(3);
        MUST(write(p[1], "x", 1) == 1);
        _exit(0);
    }
    SHOW(epoll_wait(c, &ev, 1, -1)); /* three levels up */
    wait_show("writer", k);
    close(a);
    SHOW(epoll_wait(b, &ev, 1, 0));
    return done();
}
