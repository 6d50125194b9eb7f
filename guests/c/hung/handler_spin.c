// modes: static dynamic musl
// needs: threads
// timeout: 90
// A signal handler spins until another thread sets a flag, with every signal blocked.
#include "../common.h"
#include <pthread.h>

static volatile int entered, flag;
static void handler(int s) {
    (void)s;
    entered = 1;
    while (!flag)
        ;
}
static void *setter(void *p) {
    (void)p;
    while (!entered)
        ;
    flag = 1;
    return NULL;
}

int main(void) {
    struct sigaction a = {.sa_handler = handler};
    sigfillset(&a.sa_mask);
    sigaction(SIGUSR1, &a, NULL);
    pthread_t t;
    pthread_create(&t, NULL, setter, NULL);
    raise(SIGUSR1);
    pthread_join(t, NULL);
    puts("out of the handler");
    return 0;
}
