// modes: static dynamic musl
// needs: threads
// Priority-inheriting futexes: lock, trylock, unlock, waiters, owner's death, errors.
#include "../common.h"
#include "../futex.h"
#include <pthread.h>

enum { LOCK_PI = 6, UNLOCK_PI = 7, TRYLOCK_PI = 8 };
static int word;
static volatile int step;
static void *other(void *p) {
    (void)p;
    SHOW(futex(&word, TRYLOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, UNLOCK_PI, 0, NULL, NULL, 0));
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 3000000;
    if (t.tv_nsec >= 1000000000)
        t.tv_sec++, t.tv_nsec -= 1000000000;
    SHOW(futex(&word, LOCK_PI, 0, &t, NULL, 0));
    step = 1;
    MUST(futex(&word, LOCK_PI, 0, NULL, NULL, 0) == 0);
    CHECK((word & 0x3fffffff) == syscall(SYS_gettid));
    return NULL; /* dies as its owner */
}

int main(void) {
    int tid = (int)syscall(SYS_gettid);
    SHOW(futex(&word, LOCK_PI, 0, NULL, NULL, 0));
    CHECK(word == tid);
    SHOW(futex(&word, LOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, TRYLOCK_PI, 0, NULL, NULL, 0));
    pthread_t t;
    pthread_create(&t, NULL, other, NULL);
    while (!step)
        sleep_ms(1);
    while (!(word & (int)0x80000000))
        sleep_ms(1);
    MUST(futex(&word, UNLOCK_PI, 0, NULL, NULL, 0) == 0);
    pthread_join(t, NULL);
    int expected = word & 0x3fffffff;
    CHECK(expected != tid && expected != 0);
    word = 999999999 & 0x3fffffff;
    SHOW(futex(&word, LOCK_PI, 0, NULL, NULL, 0));
    word = 0;
    SHOW(futex(&word, UNLOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(BAD, LOCK_PI, 0, NULL, NULL, 0));
    return done();
}
