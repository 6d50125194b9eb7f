// modes: static dynamic musl
// needs: threads
// Cancellation: at a cancellation point that blocks, deferred while disabled, asynchronous; cleanup handlers run.
#include "../common.h"
#include <pthread.h>
#include <semaphore.h>

static sem_t ready, never;
static int p[2];
static void clean(void *what) { printf("cleanup %s\n", (char *)what); }
static void *in_read(void *arg) {
    (void)arg;
    char c;
    pthread_cleanup_push(clean, "outer");
    pthread_cleanup_push(clean, "inner");
    sem_post(&ready);
    (void)!read(p[0], &c, 1);
    pthread_cleanup_pop(0);
    pthread_cleanup_pop(0);
    return "not cancelled";
}
static void *in_sem(void *arg) {
    (void)arg;
    pthread_cleanup_push(clean, "sem");
    sem_post(&ready);
    sem_wait(&never);
    pthread_cleanup_pop(0);
    return "not cancelled";
}
static void *disabled(void *arg) {
    (void)arg;
    int old;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    sem_post(&ready);
    sleep_ms(10);
    puts("still here");
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
    pthread_testcancel();
    return "not cancelled";
}
static void *asynchronous(void *arg) {
    (void)arg;
    int old;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
    sem_post(&ready);
    for (volatile long i = 0;; i++)
        ;
}
static void *sleeping(void *arg) {
    (void)arg;
    sem_post(&ready);
    sleep(1000);
    return "not cancelled";
}

int main(void) {
    MUST(pipe(p) == 0);
    sem_init(&ready, 0, 0);
    sem_init(&never, 0, 0);
    void *(*bodies[])(void *) = {in_read, in_sem, disabled, asynchronous, sleeping};
    for (int i = 0; i < 5; i++) {
        pthread_t t;
        void *v;
        MUST(pthread_create(&t, NULL, bodies[i], NULL) == 0);
        sem_wait(&ready);
        MUST(pthread_cancel(t) == 0);
        MUST(pthread_join(t, &v) == 0);
        puts(v == PTHREAD_CANCELED ? "cancelled" : (char *)v);
    }
    MUST(write(p[1], "x", 1) == 1);
    char c;
    SHOW(read(p[0], &c, 1));
    return done();
}
