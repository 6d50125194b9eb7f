// modes: static dynamic musl
// Shared anonymous memory is one over fork; private memory is copied when either side writes.
#include "../common.h"

int main(void) {
    int rw = PROT_READ | PROT_WRITE;
    volatile int *s = mmap(NULL, 1 << 20, rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    volatile int *p = mmap(NULL, 1 << 20, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 1 << 18; i += 1024)
        s[i] = p[i] = i;
    pid_t c = fork();
    if (c == 0) {
        int good = 1;
        for (int i = 0; i < 1 << 18; i += 1024)
            good &= s[i] == i && p[i] == i;
        for (int i = 0; i < 1 << 18; i += 1024)
            s[i] = -i, p[i] = -i;
        s[1] = getppid() == 0;
        _exit(good ? 0 : 1);
    }
    wait_show("child", c);
    int shared = 0, private = 0;
    for (int i = 1024; i < 1 << 18; i += 1024) {
        shared += s[i] == -i;
        private += p[i] == i;
    }
    SHOW(shared);
    SHOW(private);
    c = fork();
    if (c == 0) {
        if (fork() == 0) { /* a grandchild */
            s[2] = 7;
            _exit(0);
        }
        wait(NULL);
        s[3] = s[2] + 1;
        _exit(0);
    }
    wait_show("child", c);
    printf("%d %d\n", s[2], s[3]);
    /* A counter under atomic increments from four processes. */
    s[4] = 0;
    for (int k = 0; k < 4; k++)
        if (fork() == 0) {
            for (int i = 0; i < 10000; i++)
                __atomic_fetch_add((int *)&s[4], 1, __ATOMIC_SEQ_CST);
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
    SHOW(s[4]);
    return done();
}
