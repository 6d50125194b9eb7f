// modes: static dynamic musl
// racy
// needs: threads
// Four threads allocate, free each other's blocks, and check what they find in them.
#include "../common.h"
#include <pthread.h>

enum { SLOTS = 256 };
static unsigned char *slot[SLOTS];
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static long bad, swaps;
static void *body(void *p) {
    unsigned seed = (unsigned)(long)p * 7919 + (unsigned)now_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned size = 16 + (seed >> 8) % (i % 100 == 0 ? 200000 : 500), at = (seed >> 4) % SLOTS;
        unsigned char *n = malloc(size), *old;
        memset(n, (int)(size & 0xff), size < 64 ? size : 64);
        memcpy(n, &size, sizeof size);
        pthread_mutex_lock(&m);
        old = slot[at];
        slot[at] = n;
        swaps++;
        pthread_mutex_unlock(&m);
        if (old) {
            unsigned s;
            memcpy(&s, old, sizeof s);
            if (old[15] != (s & 0xff))
                __atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
            free(old);
        }
    }
    return NULL;
}

int main(void) {
    pthread_t t[4];
    for (long i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, body, (void *)i);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    unsigned left = 0;
    for (int i = 0; i < SLOTS; i++)
        if (slot[i]) {
            unsigned size;
            memcpy(&size, slot[i], sizeof size);
            left = left * 31 + size;
        }
    printf("left %x\n", left);
    printf("invariant swaps %ld bad %ld\n", swaps, bad);
    return 0;
}
