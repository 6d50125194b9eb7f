// modes: static dynamic musl
// needs: threads
// Mutex kinds: exclusion under contention, trylock, timedlock, recursive, errorcheck, priority inheritance, shared.
#include "../common.h"
#include <pthread.h>

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static long counter;
static void *count(void *p) {
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(p);
        counter++;
        pthread_mutex_unlock(p);
    }
    return NULL;
}
static void *try(void *p) {
    SHOWE(pthread_mutex_trylock(p));
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 5000000;
    if (t.tv_nsec >= 1000000000)
        t.tv_sec++, t.tv_nsec -= 1000000000;
    SHOWE(pthread_mutex_timedlock(p, &t));
    return NULL;
}
static void contend(pthread_mutex_t *mutex) {
    pthread_t t[4];
    counter = 0;
    for (int i = 0; i < 4; i++)
        MUST(pthread_create(&t[i], NULL, count, mutex) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    SHOW(counter);
}

int main(void) {
    contend(&m);
    pthread_t t;
    pthread_mutex_lock(&m);
    pthread_create(&t, NULL, try, &m);
    pthread_join(t, NULL);
    pthread_mutex_unlock(&m);
    pthread_mutexattr_t a;
    pthread_mutex_t n;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
    SHOWE(pthread_mutex_init(&n, &a));
    SHOWE(pthread_mutex_lock(&n));
    SHOWE(pthread_mutex_lock(&n));
    SHOWE(pthread_mutex_unlock(&n));
    pthread_create(&t, NULL, try, &n);
    pthread_join(t, NULL);
    SHOWE(pthread_mutex_unlock(&n));
    SHOWE(pthread_mutex_unlock(&n));
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&n, &a);
    SHOWE(pthread_mutex_lock(&n));
    SHOWE(pthread_mutex_lock(&n));
    SHOWE(pthread_mutex_unlock(&n));
    SHOWE(pthread_mutex_unlock(&n));
    SHOWE(pthread_mutex_destroy(&n));
    pthread_mutexattr_init(&a);
    if (pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT) == 0 && pthread_mutex_init(&n, &a) == 0)
        contend(&n);
    pthread_mutex_t *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    volatile int *value = (int *)(shared + 1);
    pthread_mutexattr_init(&a);
    SHOWE(pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED));
    pthread_mutex_init(shared, &a);
    for (int k = 0; k < 3; k++)
        if (fork() == 0) {
            for (int i = 0; i < 3000; i++) {
                pthread_mutex_lock(shared);
                ++*value;
                pthread_mutex_unlock(shared);
            }
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
    SHOW(*value);
    return done();
}
