// modes: static dynamic musl
// uncut: connections beyond the listener's backlog go by way of the host, and a restore cuts those
// An edge-triggered epoll server with 50 nonblocking clients in the same loop, as nginx and Go do it.
#include "../common.h"
#include "../net.h"
#include <sys/epoll.h>

enum { N = 50, ROUNDS = 20 };
static int ep;
static void add(int fd, unsigned events, unsigned data) {
    struct epoll_event e = {.events = events | EPOLLET, .data.u64 = (uint64_t)data << 32 | (unsigned)fd};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == 0);
}

int main(void) {
    int l = listener4(), port = port_of(l), finished = 0, accepted = 0;
    fcntl(l, F_SETFL, O_NONBLOCK);
    ep = epoll_create1(0);
    add(l, EPOLLIN, 0);
    struct sockaddr_in a = loop4(port);
    static int rounds[1024];
    for (int i = 0; i < N; i++) {
        int c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        MUST(connect(c, (void *)&a, sizeof a) == 0 || errno == EINPROGRESS);
        add(c, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 2);
    }
    while (finished < N) {
        struct epoll_event ev[16];
        int n = epoll_wait(ep, ev, 16, -1);
        MUST(n > 0);
        for (int i = 0; i < n; i++) {
            int fd = (int)(ev[i].data.u64 & 0xffffffff), kind = (int)(ev[i].data.u64 >> 32), s;
            char b[100];
            ssize_t got;
            if (kind == 0)
                while ((s = accept4(l, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    add(s, EPOLLIN | EPOLLRDHUP, 1);
                    accepted++;
                }
            else if (kind == 1) { /* the server's side: echo all there is */
                while ((got = read(fd, b, sizeof b)) > 0)
                    MUST(write(fd, b, got) == got);
                if (got == 0)
                    close(fd);
            } else {
                if (rounds[fd] == 0 && ev[i].events & EPOLLOUT) {
                    MUST(write(fd, "ping", 4) == 4);
                    rounds[fd] = 1;
                }
                while ((got = read(fd, b, 4)) > 0) {
                    MUST(got == 4 && memcmp(b, "ping", 4) == 0);
                    if (rounds[fd]++ < ROUNDS)
                        MUST(write(fd, "ping", 4) == 4);
                    else {
                        close(fd);
                        rounds[fd] = 0;
                        finished++;
                        break;
                    }
                }
            }
        }
    }
    printf("%d accepted, %d finished\n", accepted, finished);
    return done();
}
