// modes: static dynamic musl
// needs: threads
// Threads start, return values, are detached, have stacks of the size asked for.
#include "../common.h"
#include <pthread.h>

static void *square(void *p) { return (void *)((long)p * (long)p); }
static volatile int detached_ran;
static void *detached(void *p) {
    (void)p;
    __atomic_store_n(&detached_ran, 1, __ATOMIC_SEQ_CST);
    return NULL;
}
static void *attributes(void *p) {
    (void)p;
    char big[200000];
    memset(big, 1, sizeof big);
    return (void *)(long)big[199999];
}

int main(void) {
    pthread_t t[20];
    long sum = 0;
    for (long i = 0; i < 20; i++)
        MUST(pthread_create(&t[i], NULL, square, (void *)i) == 0);
    for (int i = 0; i < 20; i++) {
        void *v;
        MUST(pthread_join(t[i], &v) == 0);
        sum += (long)v;
    }
    SHOW(sum);
    pthread_attr_t a;
    pthread_attr_init(&a);
    SHOWE(pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED));
    SHOWE(pthread_create(&t[0], &a, detached, NULL));
    while (!__atomic_load_n(&detached_ran, __ATOMIC_SEQ_CST))
        sched_yield();
    puts("the detached one ran");
    pthread_attr_init(&a);
    SHOWE(pthread_attr_setstacksize(&a, 1 << 20));
    SHOWE(pthread_create(&t[0], &a, attributes, NULL));
    void *v;
    SHOWE(pthread_join(t[0], &v));
    SHOW((long)v);

    CHECK(pthread_equal(pthread_self(), pthread_self()));
    return done();
}
