// modes: static dynamic musl
// needs: threads
// pthread keys: values per thread, destructors at exit, up to their number of rounds; errno is per thread.
#include "../common.h"
#include <pthread.h>

static pthread_key_t key, again;
static __thread int mine;
static void drop(void *v) { printf("destructor of %s\n", (char *)v); }
static void drop_again(void *v) {
    static int rounds;
    if (++rounds < 3)
        pthread_setspecific(again, v);
    printf("round %d\n", rounds);
}
static void *body(void *p) {
    (void)p;
    CHECK(pthread_getspecific(key) == NULL && mine == 0);
    SHOWE(pthread_setspecific(key, "thread's"));
    SHOWE(pthread_setspecific(again, "x"));
    mine = 5;
    close(-1);
    CHECK(errno == EBADF);
    return NULL;
}

int main(void) {
    pthread_t t;
    SHOWE(pthread_key_create(&key, drop));
    SHOWE(pthread_key_create(&again, drop_again));
    SHOWE(pthread_setspecific(key, "main's"));
    mine = 1;
    errno = E2BIG;
    MUST(pthread_create(&t, NULL, body, NULL) == 0 && pthread_join(t, NULL) == 0);
    CHECK(errno == E2BIG && mine == 1);
    printf("%s\n", (char *)pthread_getspecific(key));
    SHOWE(pthread_key_delete(again));
    SHOWE(pthread_setspecific(again, "x"));
    return done();
}
