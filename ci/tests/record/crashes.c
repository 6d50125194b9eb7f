/* Writes lines for a while, in two threads and a child, then follows a null pointer. */
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile long total;

static void *add(void *by)
{
    for (int i = 0; i < 200; i++) {
        __atomic_fetch_add(&total, (long)by, __ATOMIC_SEQ_CST);
        usleep(10);
    }
    return 0;
}

static void fall(long *at)
{
    *at = total;
}

int main(void)
{
    pthread_t t[2];
    for (long i = 0; i < 2; i++)
        pthread_create(&t[i], 0, add, (void *)(i + 1));
    for (int i = 0; i < 40; i++) {
        dprintf(1, "line %d\n", i);
        usleep(100);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], 0);
    if (fork() == 0) {
        dprintf(1, "child\n");
        _exit(0);
    }
    wait(0);
    dprintf(1, "total %ld\n", total);
    fall(0);
}
