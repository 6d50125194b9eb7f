// modes: static dynamic musl
// racy
// Timers, a child's signals and the program's own interrupt a computation at any point; its result stays right.
#include "../common.h"

static volatile long alarms, usr;
static void handler(int s) {
    if (s == SIGALRM)
        alarms++;
    else
        usr++;
}
static unsigned long compute(void) {
    unsigned long x = 88172645463325252UL, sum = 0;
    double f = 0;
    for (int i = 0; i < 3000000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        sum += x >> 40;
        f += (double)(x & 1023) * 0.5;
    }
    return sum ^ (unsigned long)f;
}

int main(void) {
    unsigned long want = compute();
    struct sigaction a = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &a, NULL);
    sigaction(SIGUSR1, &a, NULL);
    struct itimerval it = {{0, 700}, {0, 700}};
    setitimer(ITIMER_REAL, &it, NULL);
    pid_t p = fork();
    if (p == 0) {
        for (;;) {
            kill(getppid(), SIGUSR1);
            usleep(300);
        }
    }
    int good = 0, rounds = 0;
    while (rounds < 3 || alarms < 3 || usr < 3) {
        good += compute() == want;
        rounds++;
    }
    it = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &it, NULL);
    kill(p, SIGKILL);
    waitpid(p, NULL, 0);
    printf("%ld alarms, %ld signals, %d rounds\n", alarms, usr, rounds);
    printf("invariant all right %d\n", good == rounds);
    return 0;
}
