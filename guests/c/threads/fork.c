// modes: static dynamic musl
// needs: threads
// fork with several threads: only the caller lives in the child; atfork handlers; a forked child may fork threads.
#include "../common.h"
#include <pthread.h>

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static void prepare(void) { pthread_mutex_lock(&m); puts("prepare"); }
static void parent(void) { pthread_mutex_unlock(&m); }
static void child(void) { pthread_mutex_unlock(&m); puts("child"); }
static volatile long ticks;
static void *ticker(void *p) {
    (void)p;
    for (;;) {
        pthread_mutex_lock(&m);
        ticks++;
        pthread_mutex_unlock(&m);
        sched_yield();
    }
}
static void *add(void *p) { return (void *)((long)p + 1); }
static void *forker(void *p) {
    (void)p;
    pid_t c = fork();
    if (c == 0) {
        CHECK(syscall(SYS_gettid) == getpid());
        long seen = ticks;
        sleep_ms(5);
        CHECK(seen == ticks);
        pthread_t t;
        void *v;
        MUST(pthread_create(&t, NULL, add, (void *)41) == 0 && pthread_join(t, &v) == 0);
        SHOW((long)v);
        child_exit(0);
    }
    wait_show("child", c);
    return NULL;
}

int main(void) {
    pthread_t t, f;
    pthread_create(&t, NULL, ticker, NULL);
    while (ticks == 0)
        sched_yield();
    SHOWE(pthread_atfork(prepare, parent, child));
    pthread_create(&f, NULL, forker, NULL);
    pthread_join(f, NULL);
    long seen = ticks;
    while (ticks == seen)
        sched_yield();
    puts("the ticker goes on in the parent");
    return done();
}
