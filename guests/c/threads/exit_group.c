// modes: static dynamic musl
// exit: 5
// needs: threads
// exit in one thread ends the others, blocked, spinning or asleep, and gives the code.
#include "../common.h"
#include <pthread.h>
#include <semaphore.h>

static sem_t ready;
static void *blocked(void *p) {
    sem_post(&ready);
    (void)!read((int)(long)p, &(char){0}, 1);
    puts("must not come here");
    return NULL;
}
static void *spinning(void *p) {
    (void)p;
    sem_post(&ready);
    for (volatile long i = 0;; i++)
        ;
}
static void *asleep(void *p) {
    (void)p;
    sem_post(&ready);
    sleep(1000);
    return NULL;
}
static void *ender(void *p) {
    (void)p;
    puts("leaving with 5");
    exit(5);
}

int main(void) {
    int p[2];
    MUST(pipe(p) == 0);
    sem_init(&ready, 0, 0);
    pthread_t t;
    pthread_create(&t, NULL, blocked, (void *)(long)p[0]);
    pthread_create(&t, NULL, spinning, NULL);
    pthread_create(&t, NULL, asleep, NULL);
    for (int i = 0; i < 3; i++)
        sem_wait(&ready);
    pthread_create(&t, NULL, ender, NULL);
    pause();
}
