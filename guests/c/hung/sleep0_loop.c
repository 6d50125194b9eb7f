// modes: static dynamic musl
// needs: threads
// timeout: 90
// A loop of sleep(0), nanosleep of zero and of one nanosecond waits for another thread.
#include "../common.h"
#include <pthread.h>

static volatile int stage;
static void *worker(void *p) {
    (void)p;
    for (int i = 1; i <= 3; i++) {
        while (stage != i * 2 - 1)
            nanosleep(&(struct timespec){0, 0}, NULL);
        stage++;
    }
    return NULL;
}

int main(void) {
    pthread_t t;
    pthread_create(&t, NULL, worker, NULL);
    for (int i = 0; i < 3; i++) {
        stage++;
        while (stage != (i + 1) * 2)
            if (i == 0)
                sleep(0);
            else
                clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, i - 1}, NULL);
    }
    pthread_join(t, NULL);
    SHOW(stage);
    return 0;
}
