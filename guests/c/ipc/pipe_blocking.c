// modes: static dynamic musl
// needs: threads
// Blocked readers and writers: several on one pipe, each byte to one of them, all released by a close.
#include "../common.h"
#include <pthread.h>

static int p[2], got, ends;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static void *reader(void *arg) {
    (void)arg;
    char b[16];
    ssize_t n;
    while ((n = read(p[0], b, sizeof b)) > 0) {
        pthread_mutex_lock(&m);
        got += (int)n;
        pthread_mutex_unlock(&m);
    }
    pthread_mutex_lock(&m);
    ends += n == 0;
    pthread_mutex_unlock(&m);
    return NULL;
}

int main(void) {
    pthread_t t[5];
    MUST(pipe(p) == 0);
    for (int i = 0; i < 5; i++)
        pthread_create(&t[i], NULL, reader, NULL);
    for (int i = 0; i < 1000; i++)
        MUST(write(p[1], "abc", 3) == 3);
    close(p[1]);
    for (int i = 0; i < 5; i++)
        pthread_join(t[i], NULL);
    printf("%d bytes, %d ends\n", got, ends);
    return done();
}
