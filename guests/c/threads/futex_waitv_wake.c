// modes: static dynamic musl
// needs: threads
// futex_waitv: the index of the one that was woken, values that changed, timeouts, errors.
#include "../common.h"
#include "../futex.h"
#include <pthread.h>

struct waitv { uint64_t val, uaddr; uint32_t flags, reserved; };
static int words[3];
static long waitv(struct waitv *w, unsigned n, unsigned flags, struct timespec *t, int clock) {
    return syscall(449, w, n, flags, t, clock);
}
static void *waker(void *p) {
    while (futex(p, FUTEX_WAKE, 1, NULL, NULL, 0) != 1)
        sched_yield();
    return NULL;
}

int main(void) {
    struct waitv w[3];
    for (int i = 0; i < 3; i++)
        w[i] = (struct waitv){0, (uintptr_t)&words[i], 2, 0}; /* FUTEX_32 */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    SHOW(waitv(w, 3, 0, &t, CLOCK_MONOTONIC));
    words[1] = 5;
    SHOW(waitv(w, 3, 0, NULL, 0));
    words[1] = 0;
    for (int i = 0; i < 3; i++) {
        pthread_t th;
        pthread_create(&th, NULL, waker, &words[i]);
        SHOW(waitv(w, 3, 0, NULL, 0));
        pthread_join(th, NULL);
    }
    SHOW(waitv(w, 0, 0, NULL, 0));
    SHOW(waitv(w, 129, 0, NULL, 0));
    SHOW(waitv(w, 3, 1, NULL, 0));
    SHOW(waitv(BAD, 1, 0, NULL, 0));
    w[2].flags = 0x40;
    SHOW(waitv(w, 3, 0, NULL, 0));
    w[2].flags = 2;
    w[2].reserved = 1;
    SHOW(waitv(w, 3, 0, NULL, 0));
    SHOW(waitv(w, 1, 0, &t, 99));
    return done();
}
