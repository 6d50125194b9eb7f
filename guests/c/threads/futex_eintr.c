// modes: static dynamic musl
// needs: threads
// A signal handler ends a futex wait: EINTR without SA_RESTART, gone on with after it with SA_RESTART.
#include "../common.h"
#include "../futex.h"
#include <pthread.h>

static int word;
static volatile int hits, entered, finished;
static volatile pid_t tid;
static void on_usr1(int s) { (void)s, hits++; }
static void *waiter(void *p) {
    tid = (pid_t)syscall(SYS_gettid);
    entered = 1;
    long r = futex(&word, FUTEX_WAIT, 0, p, NULL, 0);
    int e = errno;
    finished = 1;
    return (void *)(r == -1 ? (long)e : r);
}
static long try(int flags, struct timespec *timeout) {
    struct sigaction sa = {.sa_handler = on_usr1, .sa_flags = flags};
    sigaction(SIGUSR1, &sa, NULL);
    pthread_t t;
    void *v;
    hits = entered = finished = word = 0;
    pthread_create(&t, NULL, waiter, timeout);
    /* A signal before it waits would be lost. */
    while (!entered)
        sched_yield();
    await_state(&entered, getpid(), tid, "S");
    pthread_kill(t, SIGUSR1);
    while (!hits)
        sched_yield();
    /* The word stays as it is, however late the wait begins anew: a wake-up alone ends it. */
    if (flags & SA_RESTART)
        while (!finished) {
            futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0);
            sched_yield();
        }
    pthread_join(t, &v);
    return (long)v;
}

int main(void) {
    printf("plain: %s\n", err_name((int)try(0, NULL)));
    printf("SA_RESTART: %s\n", err_name((int)try(SA_RESTART, NULL)));
    struct timespec t = {100, 0};
    printf("with a timeout: %s\n", err_name((int)try(0, &t)));
    printf("with a timeout and SA_RESTART: %s\n", err_name((int)try(SA_RESTART, &t)));
    return done();
}
