// modes: static dynamic musl
// A loop without system calls ends because a timer's handler sets its flag; then because a child signals.
#include "../common.h"

static volatile sig_atomic_t flag;
static void handler(int s) { (void)s, flag = 1; }

int main(void) {
    signal(SIGALRM, handler);
    signal(SIGUSR1, handler);
    struct itimerval it = {{0, 0}, {0, 3000}};
    setitimer(ITIMER_REAL, &it, NULL);
    while (!flag)
        ;
    puts("timer came");
    flag = 0;
    pid_t p = fork();
    if (p == 0) {
        sleep_ms(2);
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    while (!flag)
        ;
    puts("child's signal came");
    wait_show("child", p);
    return done();
}
