// modes: static dynamic musl
// needs: threads
// futex_waitv: the first of several words that is woken, its index, a value that is not there, time-outs, errors.
#include "../common.h"
#include "../futex.h"
#include <pthread.h>
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
struct wait { uint64_t val, uaddr; uint32_t flags, reserved; };
static unsigned words[4];
static int ready;
static long waitv(struct wait *w, unsigned n, unsigned flags, struct timespec *t, int clock) {
    return syscall(SYS_futex_waitv, w, n, flags, t, clock);
}
static void *waker(void *p) {
    while (!__atomic_load_n(&ready, __ATOMIC_SEQ_CST))
        usleep(1000);
    while (futex((int *)&words[(long)p], FUTEX_WAKE | PRIVATE, 1, NULL, NULL, 0) == 0)
        usleep(1000);
    return NULL;
}

int main(void) {
    struct wait w[4];
    for (int i = 0; i < 4; i++)
        w[i] = (struct wait){0, (uintptr_t)&words[i], 2 | PRIVATE, 0};
    SHOW(waitv(w, 0, 0, NULL, 0));
    SHOW(waitv(w, 129, 0, NULL, 0));
    SHOW(waitv(w, 4, 1, NULL, 0));
    SHOW(waitv(BAD, 4, 0, NULL, 0));
    w[2].flags = 1;
    SHOW(waitv(w, 4, 0, NULL, 0));
    w[2].flags = 2 | PRIVATE;
    w[2].reserved = 1;
    SHOW(waitv(w, 4, 0, NULL, 0));
    w[2].reserved = 0;
    words[3] = 1;
    SHOW(waitv(w, 4, 0, NULL, 0));
    words[3] = 0;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    SHOW(waitv(w, 4, 0, &t, CLOCK_MONOTONIC));
    SHOW(waitv(w, 4, 0, &t, CLOCK_BOOTTIME));
    t.tv_nsec = 1000000000;
    SHOW(waitv(w, 4, 0, &t, CLOCK_MONOTONIC));
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 20000000;
    if (t.tv_nsec >= 1000000000)
        t.tv_sec++, t.tv_nsec -= 1000000000;
    SHOW(waitv(w, 4, 0, &t, CLOCK_REALTIME));
    for (long i = 0; i < 4; i++) {
        pthread_t th;
        ready = 0;
        pthread_create(&th, NULL, waker, (void *)i);
        __atomic_store_n(&ready, 1, __ATOMIC_SEQ_CST);
        SHOW(waitv(w, 4, 0, NULL, 0));
        pthread_join(th, NULL);
    }
    /* Nobody is left in any queue. */
    for (int i = 0; i < 4; i++)
        SHOW(futex((int *)&words[i], FUTEX_WAKE | PRIVATE, 10, NULL, NULL, 0));
    return done();
}
