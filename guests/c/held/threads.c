// modes: static dynamic musl
// stdin: \n\n\n
// held
// timeout: 90
// Threads that wait in every way that threads wait, at the cut: for locks, a robust one, conditions, semaphores, a barrier, one another's ends.
// Others compute, or hand a token round and round.
#include "../held.h"
#include <pthread.h>
#include <semaphore.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, robust, cond_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t reads = PTHREAD_RWLOCK_INITIALIZER, writes = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static sem_t sem, go;
static pthread_t joined;
static __thread long own;
static volatile bool met, never, let, stop;

static long locks(void) { return pthread_mutex_lock(&mutex) + pthread_mutex_unlock(&mutex); }
static long locks_robust(void) {
    int r = pthread_mutex_lock(&robust);
    MUST(r == 0 || pthread_mutex_consistent(&robust) == 0);
    pthread_mutex_unlock(&robust);
    return r == EOWNERDEAD ? 1000 : r;
}
static struct timespec far(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += 6000;
    return t;
}
static long waits(void) {
    struct timespec t = far();
    int r = 0;
    pthread_mutex_lock(&cond_mutex);
    while (!met && r == 0)
        r = pthread_cond_timedwait(&cond, &cond_mutex, &t);
    pthread_mutex_unlock(&cond_mutex);
    return r;
}
static long posts(void) {
    struct timespec t = far();
    return sem_timedwait(&sem, &t);
}
static long meets(void) { return pthread_barrier_wait(&barrier) != 0; }
static long read_locks(void) { return pthread_rwlock_rdlock(&reads) + pthread_rwlock_unlock(&reads); }
static long write_locks(void) { return pthread_rwlock_wrlock(&writes) + pthread_rwlock_unlock(&writes); }
static long joins(void) {
    void *r;
    return pthread_join(joined, &r) + (long)r;
}
static void slow(void) {
    while (!let)
        sem_wait(&go);
}
static long once_only(void) { return pthread_once(&once, slow); }
static void cleans(void *p) { *(long *)p = 77; }
static long cleaned;
static long is_cancelled(void) {
    pthread_cleanup_push(cleans, &cleaned);
    while (!never)
        pause();
    pthread_cleanup_pop(0);
    return 1;
}

static struct { const char *name; long (*call)(void); volatile int about, tid; pthread_t t; } w[] = {
    {.name = "mutex", .call = locks}, {.name = "robust mutex", .call = locks_robust}, {.name = "condition", .call = waits},
    {.name = "semaphore", .call = posts}, {.name = "barrier", .call = meets}, {.name = "lock for reading", .call = read_locks},
    {.name = "lock for writing", .call = write_locks}, {.name = "end of a thread", .call = joins}, {.name = "once, first", .call = once_only},
    {.name = "once, second", .call = once_only}, {.name = "cancellation", .call = is_cancelled},
};
enum { ALL = sizeof w / sizeof w[0], RING = 4 };
static void *waiter(void *p) {
    long n = (long)p;
    own = n * 1000;
    w[n].tid = (int)syscall(SYS_gettid);
    w[n].about = 1;
    return (void *)(w[n].call() + own);
}
static sem_t leave;
static void *leaves(void *p) {
    sem_wait(&leave);
    return p;
}
static sem_t owns;
static void *dies_with_lock(void *p) {
    MUST(pthread_mutex_lock(&robust) == 0);
    sem_post(&owns);
    sem_wait(&leave);
    return p;
}

static sem_t ring[RING];
static volatile long turns, bad;
static void *passes_on(void *p) {
    long n = (long)p;
    for (;;) {
        sem_wait(&ring[n]);
        if (stop)
            break;
        bad += turns % RING != n;
        turns++;
        sem_post(&ring[(n + 1) % RING]);
    }
    return NULL;
}
static void *computes(void *p) {
    double x = 0.5;
    long n = 0;
    for (; !stop || n % 1000; n++) {
        if (n % 1000 == 0)
            x = 0.5;
        x = 3.7 * x * (1 - x);
    }
    *(double *)p = x; /* whenever it ends, the same */
    return NULL;
}

int main(void) {
    pthread_mutexattr_t a;
    pthread_t ring_threads[RING], owner, computing;
    double x, y = 0.5;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    MUST(pthread_mutex_init(&robust, &a) == 0 && pthread_barrier_init(&barrier, NULL, 2) == 0);
    sem_init(&sem, 0, 0), sem_init(&go, 0, 0), sem_init(&leave, 0, 0), sem_init(&owns, 0, 0);
    for (int n = 0; n < RING; n++)
        sem_init(&ring[n], 0, n == 0);
    for (long n = 0; n < RING; n++)
        MUST(pthread_create(&ring_threads[n], NULL, passes_on, (void *)n) == 0);
    MUST(pthread_create(&computing, NULL, computes, &x) == 0);
    MUST(pthread_create(&joined, NULL, leaves, (void *)5) == 0);
    MUST(pthread_create(&owner, NULL, dies_with_lock, NULL) == 0);
    sem_wait(&owns);
    pthread_mutex_lock(&mutex), pthread_rwlock_wrlock(&reads), pthread_rwlock_rdlock(&writes);
    for (long n = 0; n < ALL; n++) {
        MUST(pthread_create(&w[n].t, NULL, waiter, (void *)n) == 0);
        while (!w[n].tid)
            sleep_ms(1);
        await_state(&w[n].about, getpid(), w[n].tid, "S"); /* one after the other: "once" has a first and a second */
    }
    for (int round = 0; round < 3; round++) {
        for (long n = 0; n < ALL; n++)
            await_state(&w[n].about, getpid(), w[n].tid, "S");
        for (long then = turns; turns < then + 50;)
            sleep_ms(1);
        held("threads that wait, and others that do not");
    }
    pthread_mutex_unlock(&mutex), pthread_rwlock_unlock(&reads), pthread_rwlock_unlock(&writes);
    pthread_mutex_lock(&cond_mutex);
    met = true;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&cond_mutex);
    sem_post(&sem), sem_post(&leave), sem_post(&leave);
    int last = pthread_barrier_wait(&barrier) != 0;
    let = true;
    sem_post(&go);
    pthread_cancel(w[ALL - 1].t);
    pthread_join(owner, NULL);
    for (long n = 0; n < ALL; n++) {
        void *r;
        MUST(pthread_join(w[n].t, &r) == 0);
        if (r == PTHREAD_CANCELED)
            printf("%s: cancelled\n", w[n].name);
        else if (w[n].call == meets) /* one of the two is told that it was the one */
            printf("%s: %ld\n", w[n].name, (long)r - n * 1000 + last);
        else
            printf("%s: %ld\n", w[n].name, (long)r - n * 1000);
    }
    SHOW(cleaned);
    stop = true;
    for (int n = 0; n < RING; n++)
        sem_post(&ring[n]);
    for (int n = 0; n < RING; n++)
        pthread_join(ring_threads[n], NULL);
    SHOW(bad);
    pthread_join(computing, NULL);
    for (int n = 0; n < 1000; n++)
        y = 3.7 * y * (1 - y);
    CHECK(x == y);
    return done();
}
