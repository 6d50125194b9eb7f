// modes: static dynamic
// needs: threads
// Robust mutexes: a dead owner, thread or process, is reported with EOWNERDEAD; unrepaired becomes ENOTRECOVERABLE.
#include "../common.h"
#include <pthread.h>

static pthread_mutex_t *m;
static void *die_holding(void *p) {
    (void)p;
    pthread_mutex_lock(m);
    return NULL;
}
static volatile int waiting;
static void *wait_for_it(void *p) {
    (void)p;
    waiting = 1;
    int r = pthread_mutex_lock(m);
    printf("waiter: %s\n", err_name(r));
    if (r == EOWNERDEAD)
        pthread_mutex_consistent(m);
    pthread_mutex_unlock(m);
    return NULL;
}

int main(void) {
    m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    SHOWE(pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST));
    SHOWE(pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED));
    SHOWE(pthread_mutex_init(m, &a));
    pthread_t t;
    pthread_create(&t, NULL, die_holding, NULL);
    pthread_join(t, NULL);
    SHOWE(pthread_mutex_lock(m));
    SHOWE(pthread_mutex_consistent(m));
    SHOWE(pthread_mutex_unlock(m));
    SHOWE(pthread_mutex_lock(m));
    SHOWE(pthread_mutex_unlock(m));
    for (int how = 0; how < 3; how++) {
        pid_t p = fork();
        if (p == 0) {
            pthread_mutex_lock(m);
            if (how == 0)
                _exit(0);
            if (how == 1)
                raise(SIGKILL);
            execl("/bin/true", "true", NULL);
            _exit(9);
        }
        wait_show("owner", p);
        SHOWE(pthread_mutex_trylock(m));
        SHOWE(pthread_mutex_consistent(m));
        SHOWE(pthread_mutex_unlock(m));
    }
    /* somebody already waits when the owner dies */
    int go[2];
    char c;
    MUST(pipe(go) == 0);
    pid_t p = fork();
    if (p == 0) {
        pthread_mutex_lock(m);
        MUST(write(go[1], "x", 1) == 1);
        sleep_ms(20);
        _exit(0);
    }
    MUST(read(go[0], &c, 1) == 1);
    pthread_create(&t, NULL, wait_for_it, NULL);
    pthread_join(t, NULL);
    wait_show("owner", p);
    pthread_create(&t, NULL, die_holding, NULL);
    pthread_join(t, NULL);
    SHOWE(pthread_mutex_lock(m));
    SHOWE(pthread_mutex_unlock(m)); /* without making it consistent */
    SHOWE(pthread_mutex_lock(m));
    SHOWE(pthread_mutex_trylock(m));
    return done();
}
