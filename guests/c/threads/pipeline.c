// modes: static dynamic musl
// needs: threads
// A pipeline of ten threads joined by pipes, blocking reads and writes in each.
#include "../common.h"
#include <pthread.h>

static int chan[11][2];
static void *stage(void *p) {
    long i = (long)p;
    int v;
    while (read(chan[i][0], &v, sizeof v) == sizeof v) {
        v++;
        MUST(write(chan[i + 1][1], &v, sizeof v) == sizeof v);
    }
    close(chan[i + 1][1]);
    return NULL;
}
static void *feed(void *p) {
    (void)p;
    for (int i = 0; i < 20000; i++)
        MUST(write(chan[0][1], &i, sizeof i) == sizeof i);
    close(chan[0][1]);
    return NULL;
}

int main(void) {
    pthread_t t[11];
    for (int i = 0; i < 11; i++)
        MUST(pipe(chan[i]) == 0);
    for (long i = 0; i < 10; i++)
        pthread_create(&t[i], NULL, stage, (void *)i);
    pthread_create(&t[10], NULL, feed, NULL);
    int v, n = 0, wrong = 0;
    while (read(chan[10][0], &v, sizeof v) == sizeof v)
        wrong += v != n++ + 10;
    printf("%d values, %d wrong\n", n, wrong);
    for (int i = 0; i < 11; i++)
        pthread_join(t[i], NULL);
    return done();
}
