// modes: static dynamic musl
// needs: threads
// REQUEUE and CMP_REQUEUE move sleepers to another word; WAKE_OP wakes by a condition on a second one.
#include "../common.h"
#include "../futex.h"
#include <pthread.h>

static int a, b, woken;
static volatile pid_t tid[6];
static void *waiter(void *p) {
    long i = (long)p;
    tid[i] = (pid_t)syscall(SYS_gettid);
    while (futex(&a, FUTEX_WAIT, 0, NULL, NULL, 0) == -1 && errno == EINTR)
        ;
    __atomic_fetch_add(&woken, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(void) {
    pthread_t t[6];
    SHOW(futex(&a, FUTEX_CMP_REQUEUE, 1, (void *)1, &b, 5));
    SHOW(futex(&a, FUTEX_CMP_REQUEUE, 1, (void *)1, &b, 0));
    SHOW(futex(&a, FUTEX_CMP_REQUEUE, -1, (void *)1, &b, 0));
    SHOW(futex(&a, FUTEX_CMP_REQUEUE, 1, (void *)1, BAD, 0));
    for (long i = 0; i < 6; i++)
        pthread_create(&t[i], NULL, waiter, (void *)i);
    /* Linux lets a sleeper that it wakes for another reason (a lock of the address space that a starting thread has waited for) wait for its
     * first word again, wherever it was moved meanwhile. So none is moved before all have been asleep for a whole look. */
    for (int look = 0; look < 2; look++)
        for (int i = 0; i < 6; i++) {
            while (!tid[i])
                sched_yield();
            if (state_of(getpid(), tid[i]) != 'S')
                look = 0, i = -1, sched_yield();
        }
    SHOW(futex(&a, FUTEX_CMP_REQUEUE, 0, (void *)2, &b, 0)); /* moves two, wakes none */
    SHOW(futex(&a, FUTEX_CMP_REQUEUE, 0, (void *)6, &b, 0));
    SHOW(futex(&a, FUTEX_WAKE, 10, NULL, NULL, 0));
    SHOW(__atomic_load_n(&woken, __ATOMIC_SEQ_CST));
    SHOW(futex(&b, FUTEX_WAKE, 2, NULL, NULL, 0));
    SHOW(futex(&b, FUTEX_REQUEUE, 1, (void *)1, &a, 0)); /* wakes one, moves one */
    /* WAKE_OP: a wakes one; b = 0 + 7 stored, and as the old b is 0 the second wake happens on b too. */
    int op = 0 << 28 | 0 << 24 | 7 << 12 | 0; /* OP_SET, CMP_EQ, argument 7, compare 0 */
    SHOW(futex(&a, FUTEX_WAKE_OP, 5, (void *)5, &b, op));
    SHOW(b);
    for (int i = 0; i < 6; i++)
        pthread_join(t[i], NULL);
    SHOW(woken);
    SHOW(futex(&a, FUTEX_WAKE_OP, 1, (void *)1, &b, 1 << 28 | 2 << 24 | 3 << 12 | 100)); /* b += 3 */
    SHOW(b);
    SHOW(futex(&a, FUTEX_WAKE_OP, 1, (void *)1, &b, 15 << 28));
    return done();
}
