// Something to look at with a debugger.
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static volatile int total;
static pthread_barrier_t both;

__attribute__((noinline)) static int add(int n) {
    total += n;
    return total;
}

static void *wait_here(void *arg) {
    pthread_barrier_wait(&both);
    return arg;
}

int main(void) {
    pthread_t t;
    pthread_barrier_init(&both, NULL, 2);
    pthread_create(&t, NULL, wait_here, NULL);
    usleep(1000);
    for (int i = 1; i <= 5; i++)
        printf("%d\n", add(i));
    pthread_barrier_wait(&both);
    pthread_join(t, NULL);
    int *nowhere = NULL;
    if (total != 15)
        return *nowhere;
    return 3;
}
