// modes: static dynamic musl
// alarm and setitimer: they fire, repeat, tell what is left, are cleared, and count each kind of time.
#include "../common.h"

static volatile sig_atomic_t alrm, vtalrm, prof;
static void handler(int s) {
    if (s == SIGALRM)
        alrm++;
    else if (s == SIGVTALRM)
        vtalrm++;
    else
        prof++;
}

int main(void) {
    signal(SIGALRM, handler);
    signal(SIGVTALRM, handler);
    signal(SIGPROF, handler);
    /* Minutes between two calls are slack for a busy machine. */
    SHOW(alarm(1000));
    CHECK(alarm(500) >= 800);
    SHOW(alarm(0) >= 400);
    SHOW(alarm(0));
    struct itimerval it = {{0, 2000}, {0, 1000}}, left;
    SHOW(setitimer(ITIMER_REAL, &it, NULL));
    while (alrm < 5)
        pause();
    SHOW(getitimer(ITIMER_REAL, &left));
    CHECK(left.it_interval.tv_usec == 2000 && left.it_value.tv_usec <= 2000);
    it = (struct itimerval){{0, 0}, {1000, 0}};
    SHOW(setitimer(ITIMER_REAL, &it, &left));
    CHECK(left.it_interval.tv_usec == 2000);
    CHECK(alarm(0) >= 800); /* the same timer */
    SHOW(getitimer(ITIMER_REAL, &left));
    CHECK(left.it_value.tv_sec == 0 && left.it_value.tv_usec == 0);
    it = (struct itimerval){{0, 0}, {0, 1000}};
    SHOW(setitimer(ITIMER_VIRTUAL, &it, NULL));
    while (!vtalrm)
        ;
    SHOW(setitimer(ITIMER_PROF, &it, NULL));
    while (!prof)
        ;
    printf("%d %d\n", vtalrm, prof);
    it.it_value.tv_usec = 1000000;
    SHOW(setitimer(ITIMER_REAL, &it, NULL));
    SHOW(setitimer(9, &it, NULL));
    SHOW(getitimer(9, &it));
    it = (struct itimerval){{0, 0}, {100, 0}};
    setitimer(ITIMER_REAL, &it, NULL);
    pid_t p = fork();
    if (p == 0) {
        getitimer(ITIMER_REAL, &left);
        child_exit(left.it_value.tv_sec); /* not inherited */
    }
    wait_show("child", p);
    return done();
}
