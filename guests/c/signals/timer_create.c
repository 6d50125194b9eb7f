// modes: static dynamic musl
// POSIX timers: by signal, silent, to a thread; overruns, absolute times, what is left, errors.
#include "../common.h"

static volatile sig_atomic_t hits;
static volatile int value;
static void handler(int s, siginfo_t *i, void *u) {
    (void)s, (void)u;
    hits++;
    value = i->si_value.sival_int;
}

int main(void) {
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGRTMIN, &a, NULL);
    timer_t t, u;
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 42};
    SHOW(timer_create(CLOCK_MONOTONIC, &ev, &t));
    struct itimerspec its = {{0, 1000000}, {0, 1000000}}, left;
    SHOW(timer_settime(t, 0, &its, NULL));
    while (hits < 5)
        sleep_ms(1);
    SHOW(value);
    SHOW(timer_gettime(t, &left));
    CHECK(left.it_interval.tv_nsec == 1000000 && left.it_value.tv_nsec <= 1000000);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sleep_ms(12);
    siginfo_t i;
    MUST(sigwaitinfo(&set, &i) == SIGRTMIN);
    CHECK(i.si_code == SI_TIMER && i.si_overrun >= 3);
    CHECK(timer_getoverrun(t) >= 3);
    its = (struct itimerspec){{0, 0}, {0, 0}};
    SHOW(timer_settime(t, 0, &its, NULL));
    SHOW(timer_delete(t));
    SHOW(timer_gettime(t, &left));
    ev.sigev_notify = SIGEV_NONE;
    SHOW(timer_create(CLOCK_REALTIME, &ev, &u));
    clock_gettime(CLOCK_REALTIME, &its.it_value);
    its.it_value.tv_sec += 1000;
    SHOW(timer_settime(u, TIMER_ABSTIME, &its, NULL));
    SHOW(timer_gettime(u, &left));
    CHECK(left.it_value.tv_sec >= 800 && left.it_value.tv_sec <= 1000);
    its.it_value.tv_nsec = -1;
    SHOW(timer_settime(u, 0, &its, NULL));
    SHOW(timer_delete(u));
    ev.sigev_notify = SIGEV_SIGNAL;
    ev.sigev_signo = 99;
    SHOW(timer_create(CLOCK_MONOTONIC, &ev, &t));
    SHOW(timer_create(99, NULL, &t));
    struct { union sigval v; int signo, notify, tid; char pad[48]; } raw = {{.sival_int = 7}, SIGRTMIN, 4, (int)syscall(SYS_gettid), {0}};
    int id;
    SHOW(syscall(SYS_timer_create, CLOCK_MONOTONIC, &raw, &id));
    its = (struct itimerspec){{0, 0}, {0, 1000000}};
    SHOW(syscall(SYS_timer_settime, id, 0, &its, NULL));
    while (sigwaitinfo(&set, &i) == SIGRTMIN && i.si_value.sival_int != 7)
        ;
    puts("to the thread");
    raw.tid = 999999999;
    SHOW(syscall(SYS_timer_create, CLOCK_MONOTONIC, &raw, &id));
    SHOW(syscall(SYS_timer_settime, 12345, 0, &its, NULL));
    return done();
}
