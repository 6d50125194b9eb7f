// modes: static dynamic musl
// needs: threads
// timeout: 90
// Three threads over one test-and-set lock with no yield; the holder may be preempted at any time.
#include "../common.h"
#include <pthread.h>

static char lock;
static long counter;
static void *body(void *p) {
    (void)p;
    for (int i = 0; i < 20000; i++) {
        while (__atomic_test_and_set(&lock, __ATOMIC_ACQUIRE))
            __builtin_ia32_pause();
        counter++;
        __atomic_clear(&lock, __ATOMIC_RELEASE);
    }
    return NULL;
}

int main(void) {
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, body, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    SHOW(counter);
    return 0;
}
