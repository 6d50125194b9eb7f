// modes: static dynamic musl
// needs: threads
// PI futexes by hand: uncontended lock, hand-over by unlock, errors, time-out, an owner that ends, requeue to a lock.
#include "../common.h"
#include "../futex.h"
#include <pthread.h>
enum {
    LOCK_PI = 6, UNLOCK_PI = 7, TRYLOCK_PI = 8, WAIT_REQUEUE_PI = 11, CMP_REQUEUE_PI = 12,
    WAITERS = 0x80000000u, DIED = 0x40000000u, TID = 0x3fffffff,
};

static unsigned lock, word, order[8];
static int step, asleep, got;
static int tid(void) { return (int)syscall(SYS_gettid); }
static long f(unsigned *w, int op, int v, const void *t, unsigned *w2, int v3) { return futex((int *)w, op, v, t, (int *)w2, v3); }
static int load(int *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }

static void *taker(void *p) {
    MUST(f(&lock, LOCK_PI | PRIVATE, 0, NULL, NULL, 0) == 0);
    MUST((lock & TID) == (unsigned)tid());
    order[got++] = (unsigned)(long)p;
    MUST(f(&lock, UNLOCK_PI | PRIVATE, 0, NULL, NULL, 0) == 0);
    return NULL;
}
static void *dies_with_it(void *p) {
    (void)p;
    MUST(f(&lock, LOCK_PI | PRIVATE, 0, NULL, NULL, 0) == 0);
    __atomic_store_n(&step, 1, __ATOMIC_SEQ_CST);
    /* The waiters' bit is set already: until the main thread waits. */
    while (load(&step) < 2)
        usleep(1000);
    await_state(&step, getpid(), getpid(), "S");
    return NULL;
}
static void *requeued(void *p) {
    (void)p;
    __atomic_fetch_add(&asleep, 1, __ATOMIC_SEQ_CST);
    long r; /* a wake-up for nothing is EAGAIN here */
    while ((r = f(&word, WAIT_REQUEUE_PI | PRIVATE, 0, NULL, &lock, 0)) == -1 && errno == EAGAIN)
        ;
    MUST(r == 0);
    MUST((lock & TID) == (unsigned)tid());
    got++;
    MUST(f(&lock, UNLOCK_PI | PRIVATE, 0, NULL, NULL, 0) == 0);
    return NULL;
}

int main(void) {
    pthread_t t[4];
    SHOW(f(&lock, LOCK_PI | PRIVATE, 0, NULL, NULL, 0));
    CHECK(lock == (unsigned)tid());
    SHOW(f(&lock, LOCK_PI | PRIVATE, 0, NULL, NULL, 0));
    SHOW(f(&lock, TRYLOCK_PI | PRIVATE, 0, NULL, NULL, 0));
    SHOW(f(&lock, UNLOCK_PI | PRIVATE, 0, NULL, NULL, 0));
    CHECK(lock == 0);
    SHOW(f(&lock, UNLOCK_PI | PRIVATE, 0, NULL, NULL, 0));
    SHOW(f(&lock, TRYLOCK_PI | PRIVATE, 0, NULL, NULL, 0));
    for (long i = 0; i < 4; i++) {
        pthread_create(&t[i], NULL, taker, (void *)i);
        while (!(__atomic_load_n(&lock, __ATOMIC_SEQ_CST) & WAITERS))
            usleep(1000);
    }
    CHECK(lock == ((unsigned)tid() | WAITERS));
    SHOW(f(&lock, UNLOCK_PI | PRIVATE, 0, NULL, NULL, 0));
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    printf("all had it: %d, %u\n", got, order[0] + order[1] + order[2] + order[3]);
    CHECK((lock & TID) == 0);

    lock = 0x3ffffffe; /* nobody has this number */
    SHOW(f(&lock, LOCK_PI | PRIVATE, 0, NULL, NULL, 0));
    lock = 0;

    pthread_create(&t[0], NULL, dies_with_it, NULL);
    while (!load(&step))
        usleep(1000);
    struct timespec past = {0, 0};
    SHOW(f(&lock, LOCK_PI | PRIVATE, 0, &past, NULL, 0));
    __atomic_store_n(&step, 2, __ATOMIC_SEQ_CST);
    SHOW(f(&lock, LOCK_PI | PRIVATE, 0, NULL, NULL, 0));
    CHECK((lock & TID) == (unsigned)tid());
    pthread_join(t[0], NULL);
    SHOW(f(&lock, UNLOCK_PI | PRIVATE, 0, NULL, NULL, 0));
    lock = 0;

    got = 0;
    SHOW(f(&lock, LOCK_PI | PRIVATE, 0, NULL, NULL, 0));
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, requeued, NULL);
    while (load(&asleep) < 3)
        usleep(1000);
    SHOW(f(&word, CMP_REQUEUE_PI | PRIVATE, 1, (void *)8, &lock, 1));
    SHOW(f(&word, CMP_REQUEUE_PI | PRIVATE, 2, (void *)8, &lock, 0));
    for (long n = 0; n < 3;) { /* they may still be on their way into the wait */
        long r = f(&word, CMP_REQUEUE_PI | PRIVATE, 1, (void *)8, &lock, 0);
        MUST(r >= 0);
        n += r;
    }
    CHECK(got == 0);
    SHOW(f(&lock, UNLOCK_PI | PRIVATE, 0, NULL, NULL, 0));
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    printf("got %d\n", got);
    return done();
}
