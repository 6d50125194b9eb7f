// modes: static dynamic musl
// needs: threads
// timeout: 90
// pthread_mutex_trylock and sem_trywait loops (no kernel entry at all) against a holder that works; rwlocks by trial.
#include "../common.h"
#include <pthread.h>
#include <semaphore.h>

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static sem_t s;
static volatile int holding;
static void *holder(void *p) {
    (void)p;
    pthread_mutex_lock(&m);
    holding = 1;
    volatile unsigned x = 1;
    for (int i = 0; i < 5000000; i++)
        x = x * 3 + 1;
    pthread_mutex_unlock(&m);
    sem_post(&s);
    return NULL;
}

int main(void) {
    sem_init(&s, 0, 0);
    pthread_t t;
    pthread_create(&t, NULL, holder, NULL);
    while (!holding)
        ;
    while (pthread_mutex_trylock(&m))
        ;
    puts("locked by trying");
    while (sem_trywait(&s))
        ;
    puts("taken by trying");
    pthread_join(t, NULL);
    return 0;
}
