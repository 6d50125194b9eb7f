// modes: static dynamic musl
// timeout: 90
// Two processes spin on shared memory for each other.
#include "../common.h"

int main(void) {
    volatile int *turn = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t p = fork();
    int me = p == 0;
    for (int i = 0; i < 10; i++) {
        while (*turn % 2 != me)
            ;
        ++*turn;
    }
    if (p == 0)
        _exit(0);
    wait_show("child", p);
    SHOW(*turn);
    return 0;
}
