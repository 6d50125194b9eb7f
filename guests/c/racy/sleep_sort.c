// modes: static dynamic musl
// racy
// needs: threads
// Threads that sleep random short times around shared work: a queue loses nothing.
#include "../common.h"
#include <pthread.h>

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int queue[64], head, tail, done_producing, took[4];
static long sum;
static void *consumer(void *p) {
    for (;;) {
        pthread_mutex_lock(&m);
        while (head == tail && !done_producing)
            pthread_cond_wait(&c, &m);
        if (head == tail) {
            pthread_mutex_unlock(&m);
            return NULL;
        }
        sum += queue[head++ % 64];
        took[(long)p]++;
        pthread_cond_broadcast(&c);
        pthread_mutex_unlock(&m);
        if (took[(long)p] % 7 == 0)
            usleep((unsigned)(now_ns(CLOCK_MONOTONIC) % 300));
    }
}

int main(void) {
    pthread_t t[4];
    for (long i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, consumer, (void *)i);
    for (int i = 1; i <= 2000; i++) {
        pthread_mutex_lock(&m);
        while (tail - head == 64)
            pthread_cond_wait(&c, &m);
        queue[tail++ % 64] = i;
        pthread_cond_broadcast(&c);
        pthread_mutex_unlock(&m);
    }
    pthread_mutex_lock(&m);
    done_producing = 1;
    pthread_cond_broadcast(&c);
    pthread_mutex_unlock(&m);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    printf("%d %d %d %d\n", took[0], took[1], took[2], took[3]);
    printf("invariant %ld %d\n", sum, took[0] + took[1] + took[2] + took[3]);
    return 0;
}
