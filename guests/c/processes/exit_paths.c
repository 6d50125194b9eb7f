// modes: static dynamic musl
// needs: threads
// Ways a process ends: exit, _exit, quick_exit, a signal, the last thread, with others blocked; what the parent reads.
#include "../common.h"
#include <pthread.h>

static void *idle(void *p) {
    (void)p;
    for (;;)
        pause();
}
static void *killer(void *p) {
    (void)p;
    kill(getpid(), SIGTERM);
    return idle(NULL);
}
static void *thread_exit(void *p) {
    (void)p;
    syscall(SYS_exit, 3);
    return NULL;
}
static void bye(void) { puts("at_quick_exit"); }

int main(void) {
    no_core();
    for (int i = 0; i < 8; i++) {
        pid_t p = fork();
        pthread_t t;
        if (p == 0)
            switch (i) {
            case 0: exit(1);
            case 1: _exit(2);
            case 2: at_quick_exit(bye); quick_exit(3);
            case 3: pthread_create(&t, NULL, idle, NULL); _exit(4);
            case 4: pthread_create(&t, NULL, killer, NULL); idle(NULL);
            case 5: syscall(SYS_exit, 5); abort();
            case 6: pthread_create(&t, NULL, thread_exit, NULL); sleep_ms(3); _exit(6);
            case 7: *(volatile int *)0 = 0;
            }
        printf("%d ", i);
        wait_show("child", p);
    }
    return done();
}
