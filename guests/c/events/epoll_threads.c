// modes: static dynamic musl
// needs: threads
// Several threads in epoll_wait on one epoll: every event is taken once (one shot), all end on a byte each; EPOLLEXCLUSIVE.
#include "../common.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#ifndef EPOLLEXCLUSIVE
#define EPOLLEXCLUSIVE (1U << 28)
#endif

static int ep, p[2], taken, stop_fd;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static void *worker(void *arg) {
    (void)arg;
    for (;;) {
        struct epoll_event ev;
        if (epoll_wait(ep, &ev, 1, -1) != 1)
            continue;
        if (ev.data.u32 == 9)
            return NULL;
        char c;
        MUST(read(p[0], &c, 1) == 1);
        pthread_mutex_lock(&m);
        taken++;
        pthread_mutex_unlock(&m);
        ev.events = EPOLLIN | EPOLLONESHOT;
        MUST(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev) == 0);
    }
}
static void *exclusive(void *arg) {
    int mine = epoll_create1(0), fd = *(int *)arg;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    MUST(epoll_ctl(mine, EPOLL_CTL_ADD, fd, &ev) == 0);
    uint64_t v;
    for (;;) {
        MUST(epoll_wait(mine, &ev, 1, -1) == 1);
        if (read(fd, &v, 8) == 8)
            break;
    }
    pthread_mutex_lock(&m);
    taken++;
    pthread_mutex_unlock(&m);
    return NULL;
}

int main(void) {
    pthread_t t[4];
    ep = epoll_create1(0);
    MUST(pipe(p) == 0);
    stop_fd = eventfd(0, 0);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = 1}, stop = {.events = EPOLLIN, .data.u32 = 9};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev) == 0 && epoll_ctl(ep, EPOLL_CTL_ADD, stop_fd, &stop) == 0);
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, worker, NULL);
    for (int i = 0; i < 500; i++)
        MUST(write(p[1], "x", 1) == 1);
    for (;;) {
        pthread_mutex_lock(&m);
        int n = taken;
        pthread_mutex_unlock(&m);
        if (n == 500)
            break;
        sched_yield();
    }
    uint64_t one = 1;
    MUST(write(stop_fd, &one, 8) == 8);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    SHOW(taken);
    taken = 0;
    int sem = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK);
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, exclusive, &sem);
    for (int i = 0; i < 4; i++) {
        MUST(write(sem, &one, 8) == 8);
        sleep_ms(1);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    SHOW(taken);
    return done();
}
