// modes: static dynamic musl
// needs: threads
// POSIX semaphores: counting between threads and processes, trywait, timedwait, EINTR, named ones.
#include "../common.h"
#include <pthread.h>
#include <semaphore.h>

static sem_t items, slots;
static int ring[4], sum;
static void *producer(void *p) {
    (void)p;
    for (int i = 1; i <= 3000; i++) {
        sem_wait(&slots);
        ring[i % 4] = i;
        sem_post(&items);
    }
    return NULL;
}
static void on_alarm(int s) { (void)s; }

int main(void) {
    pthread_t t;
    SHOW(sem_init(&items, 0, 0));
    SHOW(sem_init(&slots, 0, 4));
    pthread_create(&t, NULL, producer, NULL);
    for (int i = 1; i <= 3000; i++) {
        sem_wait(&items);
        sum += ring[i % 4];
        sem_post(&slots);
    }
    pthread_join(t, NULL);
    SHOW(sum);
    SHOW(sem_trywait(&items));
    int v;
    SHOW(sem_getvalue(&slots, &v));
    SHOW(v);
    struct timespec past = {1, 0}, odd = {1, -1};
    SHOW(sem_timedwait(&items, &past));
    SHOW(sem_timedwait(&items, &odd));
    struct sigaction sa = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval it = {{0, 5000}, {0, 5000}};
    setitimer(ITIMER_REAL, &it, NULL);
    SHOW(sem_wait(&items));
    it = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &it, NULL);
    sem_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sem_t *back = shared + 1;
    sem_init(shared, 1, 0);
    sem_init(back, 1, 0);
    pid_t p = fork();
    if (p == 0) {
        for (int i = 0; i < 500; i++) {
            sem_wait(shared);
            sem_post(back);
        }
        _exit(0);
    }
    for (int i = 0; i < 500; i++) {
        sem_post(shared);
        sem_wait(back);
    }
    wait_show("partner", p);
    char name[64];
    snprintf(name, sizeof name, "/ftl-%d", getpid());
    CHECK(sem_open(name, 0) == SEM_FAILED && errno == ENOENT);
    sem_t *n = sem_open(name, O_CREAT | O_EXCL, 0600, 2);
    CHECK(n != SEM_FAILED);
    CHECK(sem_open(name, O_CREAT | O_EXCL, 0600, 2) == SEM_FAILED && errno == EEXIST);
    sem_t *same = sem_open(name, 0);
    SHOW(sem_trywait(same));
    SHOW(sem_getvalue(n, &v));
    SHOW(v);
    SHOW(sem_unlink(name));
    SHOW(sem_unlink(name));
    SHOW(sem_close(n));
    return done();
}
