// modes: static dynamic musl
// needs: threads
// Raw futex WAIT and WAKE: values, counts, timeouts, errors.
#include "../common.h"
#include "../futex.h"
#include <pthread.h>

static int word, awake;
static void *waiter(void *p) {
    (void)p;
    while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) == 0)
        futex(&word, FUTEX_WAIT, 0, NULL, NULL, 0);
    __atomic_fetch_add(&awake, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(void) {
    SHOW(futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0));
    struct timespec t = {0, 2000000}, zero = {0, 0}, bad = {0, 1000000000}, negative = {-1, 0};
    int64_t start = now_ns(CLOCK_MONOTONIC);
    SHOW(futex(&word, FUTEX_WAIT, 0, &t, NULL, 0));
    CHECK(now_ns(CLOCK_MONOTONIC) - start >= 2000000);
    SHOW(futex(&word, FUTEX_WAIT, 0, &zero, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT | PRIVATE, 0, &zero, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT, 0, &bad, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT, 0, &negative, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT, 0, BAD, NULL, 0));
    SHOW(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAKE, -1, NULL, NULL, 0));
    SHOW(futex(BAD, FUTEX_WAIT, 0, NULL, NULL, 0));
    SHOW(futex(BAD, FUTEX_WAKE, 1, NULL, NULL, 0));
    SHOW(futex((int *)((char *)&word + 1), FUTEX_WAIT, 0, NULL, NULL, 0));
    SHOW(futex((int *)((char *)&word + 1), FUTEX_WAKE, 1, NULL, NULL, 0));
    SHOW(futex(&word, 99, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0));
    pthread_t th[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&th[i], NULL, waiter, NULL);
    sleep_ms(10);
    __atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
    futex(&word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    for (int i = 0; i < 4; i++)
        pthread_join(th[i], NULL);
    SHOW(awake);
    return done();
}
