// modes: static dynamic musl
// needs: threads
// Process-directed signals go to a thread that does not block them; thread-directed ones to theirs; masks are inherited.
#include "../common.h"
#include <pthread.h>
#include <semaphore.h>

static pthread_t self[3];
static volatile int got[3], stop[3];
static sem_t ready;
static void handler(int s) {
    (void)s;
    for (int i = 0; i < 3; i++)
        if (pthread_equal(pthread_self(), self[i]))
            got[i]++;
}
static void *body(void *p) {
    long i = (long)p;
    self[i] = pthread_self();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(i == 2 ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL);
    sem_post(&ready);
    while (!stop[i])
        sleep_ms(1);
    sigset_t pend;
    sigpending(&pend);
    printf("thread %ld: USR2 pending %d\n", i, sigismember(&pend, SIGUSR2));
    return NULL;
}

int main(void) {
    signal(SIGUSR1, handler);
    signal(SIGUSR2, handler);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    self[0] = pthread_self();
    pthread_t t[3];
    sem_init(&ready, 0, 0);
    for (long i = 1; i < 3; i++) {
        pthread_create(&t[i], NULL, body, (void *)i);
        sem_wait(&ready);
    }
    kill(getpid(), SIGUSR1); /* only thread 2 can take it */
    while (!got[2])
        sleep_ms(1);
    printf("%d %d %d\n", got[0], got[1], got[2]);
    pthread_kill(t[1], SIGUSR1); /* blocked there: stays pending with it */
    pthread_kill(t[1], SIGUSR2);
    sleep_ms(3);
    printf("%d %d %d\n", got[0], got[1], got[2]);
    sigset_t pend;
    sigpending(&pend);
    printf("main: USR1 pending %d USR2 pending %d\n", sigismember(&pend, SIGUSR1), sigismember(&pend, SIGUSR2));
    for (int i = 1; i < 3; i++) {
        stop[i] = 1;
        pthread_join(t[i], NULL);
    }
    SHOWE(pthread_kill(pthread_self(), 0));
    SHOWE(pthread_kill(pthread_self(), 999));
    return done();
}
