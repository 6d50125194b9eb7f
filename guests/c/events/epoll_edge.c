// modes: static dynamic musl
// Edge-triggered and one-shot epoll: when a report comes again, and when it does not.
#include "../common.h"
#include <sys/epoll.h>
#include <sys/socket.h>

static int ep, s[2];
static void look(const char *what) {
    struct epoll_event ev;
    int n = epoll_wait(ep, &ev, 1, 0);
    printf("%s: %d events %#x\n", what, n, n > 0 ? ev.events : 0);
}
static void mod(unsigned events) {
    struct epoll_event e = {.events = events};
    MUST(epoll_ctl(ep, EPOLL_CTL_MOD, s[0], &e) == 0);
}

int main(void) {
    char b[64];
    ep = epoll_create1(0);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    struct epoll_event e = {.events = EPOLLIN | EPOLLET};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, s[0], &e) == 0);
    look("nothing yet");
    MUST(write(s[1], "ab", 2) == 2);
    look("first data");
    look("no new edge");
    MUST(write(s[1], "c", 1) == 1);
    look("more data is an edge");
    MUST(read(s[0], b, 1) == 1);
    look("a partial read is none");
    MUST(read(s[0], b, 10) == 2);
    look("drained");
    MUST(write(s[1], "d", 1) == 1);
    look("data again");
    mod(EPOLLIN | EPOLLET);
    look("modify reports anew");
    look("once");
    mod(EPOLLOUT | EPOLLET);
    look("writable");
    look("once");
    mod(EPOLLIN | EPOLLONESHOT);
    look("one shot");
    MUST(write(s[1], "e", 1) == 1);
    look("spent");
    mod(EPOLLIN | EPOLLONESHOT);
    look("armed again");
    mod(EPOLLIN | EPOLLRDHUP | EPOLLET);
    look("drain report");
    MUST(shutdown(s[1], SHUT_WR) == 0);
    look("peer shut down");
    close(s[1]);
    look("peer closed");
    look("no more");
    e = (struct epoll_event){.events = EPOLLIN};
    int p[2];
    MUST(pipe(p) == 0);
    e.events = EPOLLOUT | EPOLLET;
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e) == 0);
    look("pipe writable");
    fcntl(p[1], F_SETFL, O_NONBLOCK);
    static char big[65536];
    MUST(write(p[1], big, sizeof big) == sizeof big);
    look("full");
    MUST(read(p[0], big, sizeof big) == sizeof big);
    look("writable again");
    return done();
}
