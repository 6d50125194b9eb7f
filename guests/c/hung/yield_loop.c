// modes: static dynamic musl
// needs: threads
// timeout: 90
// sched_yield loops of several threads that wait for one that computes first.
#include "../common.h"
#include <pthread.h>
#include <sched.h>

static volatile int ready;
static int through;
static void *waiter(void *p) {
    (void)p;
    while (!ready)
        sched_yield();
    __atomic_fetch_add(&through, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(void) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, waiter, NULL);
    volatile unsigned x = 1;
    for (int i = 0; i < 20000000; i++)
        x = x * 3 + 1;
    ready = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    SHOW(through);
    return 0;
}
