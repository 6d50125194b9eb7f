// modes: static dynamic musl
// needs: threads
// Sleepers of different lengths wake in order of their times, whatever the order they started in. A loaded machine may
// disturb that, so several attempts are allowed, with more and more time between them; one in order is asked for.
#include "../common.h"
#include <pthread.h>

static int order[6], n;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static int64_t base, apart;
static void *sleeper(void *p) {
    long i = (long)p;
    int64_t until = base + (i + 1) * apart;
    struct timespec t = {until / 1000000000, until % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    pthread_mutex_lock(&m);
    order[n++] = (int)i;
    pthread_mutex_unlock(&m);
    return NULL;
}

int main(void) {
    pthread_t t[6];
    static const long start[] = {3, 0, 5, 1, 4, 2};
    bool ordered = false;
    for (int attempt = 0; attempt < 20 && !ordered; attempt++) {
        n = 0;
        apart = 10000000LL * (1 + attempt);
        base = now_ns(CLOCK_MONOTONIC) + 5000000;
        for (int i = 0; i < 6; i++)
            pthread_create(&t[i], NULL, sleeper, (void *)start[i]);
        for (int i = 0; i < 6; i++)
            pthread_join(t[i], NULL);
        ordered = true;
        for (int i = 0; i < 6; i++)
            ordered &= order[i] == i;
    }
    CHECK(ordered);
    return done();
}
