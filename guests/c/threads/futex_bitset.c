// modes: static dynamic musl
// needs: threads
// FUTEX_WAIT_BITSET with absolute times on both clocks, and WAKE_BITSET that picks its sleepers.
#include "../common.h"
#include "../futex.h"
#include <pthread.h>

static int word, woken[2];
static void *waiter(void *p) {
    long i = (long)p;
    MUST(futex(&word, FUTEX_WAIT_BITSET | PRIVATE, 0, NULL, NULL, 1 << i) == 0);
    __atomic_store_n(&woken[i], 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(void) {
    struct timespec t;
    const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME};
    const int flags[] = {0, FUTEX_CLOCK_REALTIME};
    for (int i = 0; i < 2; i++) {
        int64_t start = now_ns(clocks[i]);
        t.tv_sec = (start + 3000000) / 1000000000, t.tv_nsec = (start + 3000000) % 1000000000;
        SHOW(futex(&word, FUTEX_WAIT_BITSET | PRIVATE | flags[i], 0, &t, NULL, ~0));
        CHECK(now_ns(clocks[i]) >= start + 3000000);
        t.tv_sec = 1;
        SHOW(futex(&word, FUTEX_WAIT_BITSET | PRIVATE | flags[i], 0, &t, NULL, ~0));
    }
    SHOW(futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT_BITSET, 7, NULL, NULL, 1));
    pthread_t th[2];
    for (long i = 0; i < 2; i++)
        pthread_create(&th[i], NULL, waiter, (void *)i);
    /* Only the one who waits with bit 1 is woken; keep trying until it sleeps. */
    while (futex(&word, FUTEX_WAKE_BITSET | PRIVATE, INT_MAX, NULL, NULL, 2) == 0)
        sched_yield();
    pthread_join(th[1], NULL);
    CHECK(woken[1] == 1 && woken[0] == 0);
    SHOW(futex(&word, FUTEX_WAKE_BITSET | PRIVATE, INT_MAX, NULL, NULL, 4));
    while (futex(&word, FUTEX_WAKE_BITSET | PRIVATE, INT_MAX, NULL, NULL, 1) == 0)
        sched_yield();
    pthread_join(th[0], NULL);
    CHECK(woken[0] == 1);
    return done();
}
