// modes: static dynamic musl
// racy
// needs: threads
// Peterson's lock with sequentially consistent atomics keeps two spinning threads apart.
#include "../common.h"
#include <pthread.h>
#include <sched.h>

static int want[2], turn;
static pthread_barrier_t together;
static volatile long inside, counter, clashes;
static long waits;
static void *body(void *p) {
    int me = (int)(long)p;
    pthread_barrier_wait(&together);
    for (int i = 0; i < 5000; i++) {
        __atomic_store_n(&want[me], 1, __ATOMIC_SEQ_CST);
        __atomic_store_n(&turn, 1 - me, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&want[1 - me], __ATOMIC_SEQ_CST) && __atomic_load_n(&turn, __ATOMIC_SEQ_CST) == 1 - me)
            __atomic_fetch_add(&waits, 1, __ATOMIC_RELAXED), sched_yield();
        if (inside)
            clashes++;
        inside = 1;
        counter++;
        inside = 0;
        __atomic_store_n(&want[me], 0, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

int main(void) {
    pthread_barrier_init(&together, NULL, 2);
    pthread_t t[2];
    for (long i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, body, (void *)i);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    printf("waits %ld\n", waits);
    printf("invariant %ld clashes %ld\n", counter, clashes);
    return 0;
}
