// modes: static static-pie dynamic nopie musl musl-dynamic
// Thread-local variables: initial values, zeroes, alignment, a big block, separate copies per thread.
// needs: threads
#include "../common.h"
#include <pthread.h>
#include <semaphore.h>

static __thread int plain = 5;
static __thread char zeroes[5000];
static __thread double aligned __attribute__((aligned(64))) = 2.5;
__thread int global_tls = 9;
static int *first;
static sem_t created;

static void *other(void *arg) {
    (void)arg;
    sem_wait(&created);
    CHECK(&plain != first);
    CHECK(plain == 5 && global_tls == 9 && aligned == 2.5);
    CHECK(zeroes[0] == 0 && zeroes[4999] == 0);
    CHECK((uintptr_t)&aligned % 64 == 0);
    plain = 77;
    return &plain == first ? NULL : "other";
}

int main(void) {
    first = &plain;
    CHECK(plain == 5 && global_tls == 9 && aligned == 2.5);
    CHECK((uintptr_t)&aligned % 64 == 0);
    plain = 6;
    memset(zeroes, 1, sizeof zeroes);
    pthread_t t;
    void *ret;
    sem_init(&created, 0, 0);
    SHOWE(pthread_create(&t, NULL, other, NULL));
    sem_post(&created);
    SHOWE(pthread_join(t, &ret));
    printf("returned %s\n", (char *)ret);
    CHECK(plain == 6 && zeroes[4999] == 1);
    return done();
}
