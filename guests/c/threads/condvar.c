// modes: static dynamic musl
// needs: threads
// Condition variables: hand-over in turns, broadcast, timed waits on both clocks, shared between processes.
#include "../common.h"
#include <pthread.h>

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int turn, woken;
static void *player(void *p) {
    int me = (int)(long)p;
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&m);
        while (turn % 2 != me)
            pthread_cond_wait(&c, &m);
        turn++;
        pthread_cond_signal(&c);
        pthread_mutex_unlock(&m);
    }
    return NULL;
}
static void *sleeper(void *p) {
    (void)p;
    pthread_mutex_lock(&m);
    turn++;
    pthread_cond_broadcast(&c);
    while (woken == 0)
        pthread_cond_wait(&c, &m);
    woken++;
    pthread_mutex_unlock(&m);
    return NULL;
}

int main(void) {
    pthread_t t[8];
    for (long i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, player, (void *)i);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    SHOW(turn);
    turn = 0;
    for (int i = 0; i < 8; i++)
        pthread_create(&t[i], NULL, sleeper, NULL);
    pthread_mutex_lock(&m);
    while (turn < 8)
        pthread_cond_wait(&c, &m);
    woken = 1;
    pthread_cond_broadcast(&c);
    pthread_mutex_unlock(&m);
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
    SHOW(woken);
    const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC};
    for (int i = 0; i < 2; i++) {
        pthread_condattr_t a;
        pthread_cond_t timed;
        pthread_condattr_init(&a);
        SHOWE(pthread_condattr_setclock(&a, clocks[i]));
        pthread_cond_init(&timed, &a);
        struct timespec until;
        int64_t start = now_ns(CLOCK_MONOTONIC);
        clock_gettime(clocks[i], &until);
        until.tv_nsec += 10000000;
        if (until.tv_nsec >= 1000000000)
            until.tv_sec++, until.tv_nsec -= 1000000000;
        pthread_mutex_lock(&m);
        int r;
        while ((r = pthread_cond_timedwait(&timed, &m, &until)) == 0)
            ;
        printf("%s\n", err_name(r));
        CHECK(now_ns(CLOCK_MONOTONIC) - start >= 9900000);
        until.tv_sec -= 100;
        SHOWE(pthread_cond_timedwait(&timed, &m, &until));
        until.tv_nsec = -1;
        SHOWE(pthread_cond_timedwait(&timed, &m, &until));
        pthread_mutex_unlock(&m);
    }
    return done();
}
