// modes: static dynamic musl
// needs: threads
// timeout: 90
// The same with pause in the loop, twenty times, as runtimes spin.
#include "../common.h"
#include <pthread.h>

static int turn;
static void *player(void *p) {
    for (int i = 0; i < 20; i++) {
        while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) % 2 != (long)p)
            __builtin_ia32_pause();
        __atomic_fetch_add(&turn, 1, __ATOMIC_ACQ_REL);
    }
    return NULL;
}

int main(void) {
    pthread_t t;
    pthread_create(&t, NULL, player, (void *)1);
    player((void *)0);
    pthread_join(t, NULL);
    SHOW(turn);
    return 0;
}
