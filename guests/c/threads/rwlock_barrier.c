// modes: static dynamic musl
// needs: threads
// Read-write locks, barriers, spin locks, once.
#include "../common.h"
#include <pthread.h>

static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_spinlock_t spin;
static int a, b, torn, serial, inits, spun;
static void init(void) { inits++; }
static void *body(void *p) {
    long me = (long)p;
    pthread_once(&once, init);
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
        __atomic_fetch_add(&serial, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 2000; i++) {
        if (me == 0) {
            pthread_rwlock_wrlock(&rw);
            a++, b++;
            pthread_rwlock_unlock(&rw);
        } else {
            pthread_rwlock_rdlock(&rw);
            if (a != b)
                torn = 1;
            pthread_rwlock_unlock(&rw);
        }
        pthread_spin_lock(&spin);
        spun++;
        pthread_spin_unlock(&spin);
    }
    for (int i = 0; i < 50; i++)
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
            __atomic_fetch_add(&serial, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(void) {
    pthread_t t[4];
    SHOWE(pthread_barrier_init(&barrier, NULL, 4));
    pthread_spin_init(&spin, 0);
    for (long i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, body, (void *)i);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    printf("%d %d torn %d serial %d inits %d spun %d\n", a, b, torn, serial, inits, spun);
    SHOWE(pthread_rwlock_rdlock(&rw));
    SHOWE(pthread_rwlock_tryrdlock(&rw));
    SHOWE(pthread_rwlock_trywrlock(&rw));
    pthread_rwlock_unlock(&rw);
    pthread_rwlock_unlock(&rw);
    SHOWE(pthread_rwlock_wrlock(&rw));
    SHOWE(pthread_rwlock_tryrdlock(&rw));
    struct timespec past = {1, 0};
    pthread_rwlock_unlock(&rw);
    SHOWE(pthread_rwlock_timedrdlock(&rw, &past));
    SHOWE(pthread_barrier_destroy(&barrier));
    return done();
}
