// modes: static dynamic musl
// exit: 9
// Handlers that call _exit, longjmp out of loops of signals, and fork.
#include "../common.h"
#include <setjmp.h>

static sigjmp_buf jump;
static volatile int count;
static void jumper(int s) {
    (void)s;
    count++;
    siglongjmp(jump, 1);
}
static void forker(int s) {
    (void)s;
    pid_t p = fork();
    if (p == 0)
        _exit(2);
    wait_show("forked in a handler", p);
}
static void leaver(int s) {
    (void)s;
    puts("leaving from the handler");
    _exit(9);
}

int main(void) {
    signal(SIGUSR1, jumper);
    for (volatile int i = 0; i < 1000; i++)
        if (sigsetjmp(jump, 1) == 0)
            raise(SIGUSR1);
    SHOW(count);
    signal(SIGUSR2, forker);
    raise(SIGUSR2);
    signal(SIGTERM, leaver);
    kill(getpid(), SIGTERM);
    for (;;)
        pause();
}
