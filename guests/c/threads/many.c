// modes: static dynamic musl
// needs: threads
// 500 threads alive at once, then 2,000 one after the other.
#include "../common.h"
#include <pthread.h>

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int alive, go;
static void *member(void *p) {
    (void)p;
    pthread_mutex_lock(&m);
    alive++;
    pthread_cond_broadcast(&c);
    while (!go)
        pthread_cond_wait(&c, &m);
    pthread_mutex_unlock(&m);
    return NULL;
}
static void *nothing(void *p) { return p; }

int main(void) {
    static pthread_t t[500];
    pthread_attr_t a;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 64 << 10);
    for (int i = 0; i < 500; i++)
        MUST(pthread_create(&t[i], &a, member, NULL) == 0);
    pthread_mutex_lock(&m);
    while (alive < 500)
        pthread_cond_wait(&c, &m);
    SHOW(alive);
    go = 1;
    pthread_cond_broadcast(&c);
    pthread_mutex_unlock(&m);
    for (int i = 0; i < 500; i++)
        MUST(pthread_join(t[i], NULL) == 0);
    int good = 0;
    for (long i = 0; i < 2000; i++) {
        void *v;
        MUST(pthread_create(&t[0], &a, nothing, (void *)i) == 0 && pthread_join(t[0], &v) == 0);
        good += (long)v == i;
    }
    SHOW(good);
    return done();
}
