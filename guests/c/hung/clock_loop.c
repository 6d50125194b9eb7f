// modes: static dynamic musl
// needs: threads
// timeout: 90
// Spinning on the clock alone: until a time has come, and until another thread has set a flag (calls stay in the vDSO).
#include "../common.h"
#include <pthread.h>

static volatile int flag;
static void *setter(void *p) {
    (void)p;
    int64_t until = now_ns(CLOCK_MONOTONIC) + 3000000;
    while (now_ns(CLOCK_MONOTONIC) < until)
        ;
    flag = 1;
    return NULL;
}

int main(void) {
    pthread_t t;
    pthread_create(&t, NULL, setter, NULL);
    while (!flag)
        now_ns(CLOCK_MONOTONIC);
    pthread_join(t, NULL);
    time_t start = time(NULL);
    struct timeval tv;
    int64_t until = now_ns(CLOCK_REALTIME) + 5000000;
    do
        gettimeofday(&tv, NULL);
    while (tv.tv_sec * 1000000000LL + tv.tv_usec * 1000LL < until);
    CHECK(time(NULL) - start <= 2);
    return done();
}
