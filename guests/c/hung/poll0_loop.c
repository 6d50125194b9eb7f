// modes: static dynamic musl
// needs: threads
// timeout: 90
// Loops of poll(0), select(0), epoll_wait(0) and a nonblocking read wait for another thread and another process.
#include "../common.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>

static int p[2];
static void *writer(void *arg) {
    MUST(write(p[1], arg, 1) == 1);
    return NULL;
}

int main(void) {
    MUST(pipe(p) == 0);
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    int ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev) == 0);
    for (int i = 0; i < 8; i++) {
        pthread_t t;
        pid_t child = -1;
        if (i % 2) {
            if ((child = fork()) == 0) {
                writer("p");
                _exit(0);
            }
        } else
            pthread_create(&t, NULL, writer, "t");
        struct pollfd pf = {p[0], POLLIN, 0};
        fd_set set;
        char c;
        for (;;) {
            FD_ZERO(&set);
            FD_SET(p[0], &set);
            if (i / 2 == 0 && poll(&pf, 1, 0) == 1)
                break;
            if (i / 2 == 1 && select(p[0] + 1, &set, NULL, NULL, &(struct timeval){0, 0}) == 1)
                break;
            if (i / 2 == 2 && epoll_wait(ep, &ev, 1, 0) == 1)
                break;
            if (i / 2 == 3 && read(p[0], &c, 0) == 0 && poll(&pf, 1, 0) == 1)
                break;
        }
        MUST(read(p[0], &c, 1) == 1);
        putchar(c);
        if (i % 2)
            waitpid(child, NULL, 0);
        else
            pthread_join(t, NULL);
    }
    puts("");
    return 0;
}
