// modes: static dynamic musl
// Closing what is watched: gone with the last duplicate, numbers used again, shared by fork.
#include "../common.h"
#include <sys/epoll.h>

static int ep;
static int add(int fd, unsigned data) {
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = data};
    return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}
static void look(const char *what) {
    struct epoll_event ev[4];
    int n = epoll_wait(ep, ev, 4, 0);
    printf("%s: %d data %u\n", what, n, n > 0 ? ev[0].data.u32 : 0);
}

int main(void) {
    int p[2], q[2];
    ep = epoll_create1(0);
    MUST(pipe(p) == 0 && write(p[1], "x", 1) == 1);
    SHOW(add(p[0], 1));
    int d = dup(p[0]);
    SHOW(add(d, 2)); /* another number: another entry */
    look("both");
    close(d);
    look("the duplicate was closed, the description lives");
    close(p[0]);
    look("all closed");
    MUST(pipe(q) == 0 && write(q[1], "y", 1) == 1);
    CHECK(q[0] == p[0] || q[1] == p[0] || q[0] == d);
    look("the number used again is another file");
    SHOW(add(q[0], 3));
    look("added anew");
    pid_t k = fork();
    if (k == 0) {
        look("in the child");
        struct epoll_event e = {0};
        SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, q[0], &e));
        child_exit(0);
    }
    wait_show("child", k);
    look("deleted by the child for both");
    SHOW(add(q[0], 4));
    k = fork();
    if (k == 0) {
        close(q[0]);
        _exit(0);
    }
    wait_show("child", k);
    look("a close in the child leaves it");
    close(ep);
    SHOW(epoll_wait(ep, &(struct epoll_event){0}, 1, 0));
    return done();
}
