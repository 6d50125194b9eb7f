// modes: static dynamic musl
// needs: threads
// timeout: 90
// Spinning on the time stamp counter until it has advanced and until a thread has run.
#include "../common.h"
#include <pthread.h>
#include <x86intrin.h>

static volatile int flag;
static void *setter(void *p) {
    (void)p;
    flag = 1;
    return NULL;
}

int main(void) {
    unsigned long long until = __rdtsc() + 5000000;
    while (__rdtsc() < until)
        ;
    pthread_t t;
    pthread_create(&t, NULL, setter, NULL);
    while (!flag)
        __rdtsc();
    pthread_join(t, NULL);
    puts("both loops ended");
    return 0;
}
