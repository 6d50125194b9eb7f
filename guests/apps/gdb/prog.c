/* What the debugger looks at. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int count;
static int *here = &count;
static volatile int caught;

int twice(int n) { return 2 * n; }

int work(int n) {
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += twice(i);
    count = sum;
    return sum;
}

static void *thread(void *arg) {
    work(*(int *)arg);
    return arg;
}

static void on_signal(int s) { caught = s; }

int main(int argc, char **argv) {
    int n = 4;
    pthread_t t;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && strcmp(argv[1], "crash") == 0) {
        n = *(volatile int *)(long)(argc - 2);
    } else if (argc > 1 && strcmp(argv[1], "signal") == 0) {
        signal(SIGUSR1, on_signal);
        raise(SIGUSR1);
        getppid();
        printf("caught %d\n", caught == SIGUSR1);
    } else if (argc > 1 && strcmp(argv[1], "fork") == 0) {
        if (fork() == 0)
            _exit(3);
        wait(NULL);
    } else {
        pthread_create(&t, NULL, thread, &n);
        pthread_join(t, NULL);
        printf("count %d\n", count);
    }
    return 0;
}
