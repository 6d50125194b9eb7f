// needs: threads
/* futex_wake, futex_wait and futex_requeue, the calls that take futex(2) apart (Linux 6.7). */
#include "../common.h"
#include <pthread.h>
#define NR_wake 454
#define NR_wait 455
#define NR_requeue 456
#define U32 2
#define PRIVATE 128
struct waitv { uint64_t val, uaddr; uint32_t flags, reserved; };

static uint32_t word, other;
static int ready[4], woken;
static volatile int waits[3];
static volatile pid_t tids[3];

static long fwait(uint32_t *a, unsigned long v, unsigned long mask, unsigned flags, struct timespec *t, int clk) {
    return syscall(NR_wait, a, v, mask, flags, t, clk);
}
static long fwake(uint32_t *a, unsigned long mask, int n, unsigned flags) { return syscall(NR_wake, a, mask, n, flags); }

static void *waiter(void *arg) {
    long mask = (long)arg;
    int me = __builtin_ctzl((unsigned long)mask);
    tids[me] = (pid_t)syscall(SYS_gettid);
    __atomic_add_fetch(&ready[0], 1, __ATOMIC_SEQ_CST);
    waits[me] = 1;
    while (fwait(&word, 0, (unsigned long)mask, U32 | PRIVATE, NULL, 0) == -1 && errno == EINTR)
        ;
    __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void settle(int n) {
    while (__atomic_load_n(&ready[0], __ATOMIC_SEQ_CST) < n)
        usleep(1000);
    /* Twice: a late wake-up of another kind may have one of them look again and sleep anew (see futex_requeue.c). */
    for (int look = 0; look < 2; look++)
        for (int i = 0; i < n; i++)
            if (!waits[i] || state_of(getpid(), tids[i]) != 'S')
                look = 0, i = -1, usleep(1000);
}

int main(void) {
    struct timespec now, past = {0, 0}, bad = {0, 2000000000};
    SHOW(fwake(&word, 1, 1, U32 | PRIVATE));
    SHOW(fwake(&word, 0, 1, U32 | PRIVATE));
    SHOW(fwake(&word, 1, 1, PRIVATE));
    SHOW(fwake(&word, 1, 1, U32 | 64));
    SHOW(fwake(&word, 1UL << 32, 1, U32));
    SHOW(fwake((uint32_t *)((char *)&word + 1), 1, 1, U32));
    SHOW(fwait(&word, 1, 1, U32 | PRIVATE, NULL, 0));
    SHOW(fwait(&word, 0, 0, U32 | PRIVATE, NULL, 0));
    SHOW(fwait(&word, 0, 1, U32 | PRIVATE, &past, CLOCK_MONOTONIC));
    SHOW(fwait(&word, 0, 1, U32 | PRIVATE, &past, CLOCK_REALTIME));
    SHOW(fwait(&word, 0, 1, U32 | PRIVATE, &past, CLOCK_BOOTTIME));
    SHOW(fwait(&word, 0, 1, U32 | PRIVATE, &bad, CLOCK_MONOTONIC));
    SHOW(fwait(&word, 1UL << 33, 1, U32 | PRIVATE, NULL, 0));
    clock_gettime(CLOCK_MONOTONIC, &now);
    now.tv_nsec += 20000000;
    if (now.tv_nsec >= 1000000000) {
        now.tv_nsec -= 1000000000;
        now.tv_sec++;
    }
    SHOW(fwait(&word, 0, 1, U32 | PRIVATE, &now, CLOCK_MONOTONIC));

    pthread_t t[4];
    for (long i = 0; i < 3; i++)
        MUST(pthread_create(&t[i], NULL, waiter, (void *)(1L << i)) == 0);
    settle(3);
    SHOW(fwake(&word, 7, 0, U32 | PRIVATE));
    SHOW(fwake(&word, 8, 10, U32 | PRIVATE));
    SHOW(fwake(&word, 2, 10, U32 | PRIVATE));
    struct waitv v[2] = {{0, (uintptr_t)&word, U32 | PRIVATE, 0}, {0, (uintptr_t)&other, U32 | PRIVATE, 0}};
    v[0].val = 5;
    SHOW(syscall(NR_requeue, v, 0, 1, 1));
    v[0].val = 0;
    SHOW(syscall(NR_requeue, v, 1, 1, 1));
    SHOW(syscall(NR_requeue, NULL, 0, 1, 1));
    SHOW(syscall(NR_requeue, v, 0, -1, 1));
    v[1].flags = PRIVATE;
    SHOW(syscall(NR_requeue, v, 0, 0, 1));
    v[1].flags = U32 | PRIVATE;
    SHOW(syscall(NR_requeue, v, 0, 0, 10));
    SHOW(fwake(&word, 7, 10, U32 | PRIVATE));
    SHOW(fwake(&other, 7, 10, U32 | PRIVATE));
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    CHECK(woken == 3);
    return done();
}
