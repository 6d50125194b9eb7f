// modes: static dynamic musl
// A futex in shared memory is one for two processes, by different addresses and by a file; a private one is not.
#include "../common.h"
#include "../futex.h"

static int pair(int *mine, int *theirs) {
    pid_t p = fork();
    if (p == 0) {
        while (__atomic_load_n(theirs, __ATOMIC_SEQ_CST) == 0)
            futex(theirs, FUTEX_WAIT, 0, NULL, NULL, 0);
        __atomic_store_n(theirs, 2, __ATOMIC_SEQ_CST);
        futex(theirs, FUTEX_WAKE, 1, NULL, NULL, 0);
        _exit(7);
    }
    sleep_ms(3);
    __atomic_store_n(mine, 1, __ATOMIC_SEQ_CST);
    futex(mine, FUTEX_WAKE, 1, NULL, NULL, 0);
    while (__atomic_load_n(mine, __ATOMIC_SEQ_CST) != 2)
        futex(mine, FUTEX_WAIT, 1, NULL, NULL, 0);
    int st;
    MUST(waitpid(p, &st, 0) == p);
    return WEXITSTATUS(st);
}

int main(void) {
    int rw = PROT_READ | PROT_WRITE;
    int *s = mmap(NULL, 4096, rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SHOW(pair(s, s));
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    MUST(ftruncate(fd, 8192) == 0);
    int *a = mmap(NULL, 4096, rw, MAP_SHARED, fd, 4096), *b = mmap(NULL, 8192, rw, MAP_SHARED, fd, 0);
    SHOW(pair(a, b + 1024)); /* one page at two addresses */
    static int private;
    pid_t p = fork();
    if (p == 0) {
        struct timespec t = {0, 20000000};
        _exit(futex(&private, FUTEX_WAIT, 0, &t, NULL, 0) == -1 && errno == ETIMEDOUT ? 3 : 4);
    }
    sleep_ms(5);
    SHOW(futex(&private, FUTEX_WAKE, 1, NULL, NULL, 0));
    wait_show("its own", p);
    return done();
}
