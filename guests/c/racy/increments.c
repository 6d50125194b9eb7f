// modes: static dynamic musl
// racy
// needs: threads
// Unprotected increments lose some; protected and atomic ones lose none.
#include "../common.h"
#include <pthread.h>

static volatile long unprotected;
static pthread_barrier_t together;
static long atomic, locked;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static void *body(void *p) {
    (void)p;
    pthread_barrier_wait(&together);
    for (int i = 0; i < 50000; i++) {
        unprotected++;
        __atomic_fetch_add(&atomic, 1, __ATOMIC_RELAXED);
        if (i % 16 == 0) {
            pthread_mutex_lock(&m);
            locked++;
            pthread_mutex_unlock(&m);
        }
    }
    return NULL;
}

int main(void) {
    pthread_barrier_init(&together, NULL, 4);
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, body, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    printf("unprotected %ld\n", unprotected);
    printf("invariant atomic %ld locked %ld at most %d\n", atomic, locked, unprotected <= 200000);
    return 0;
}
