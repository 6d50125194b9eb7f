// modes: static dynamic musl
// siginfo of each source: kill, tgkill, sigqueue, a child, a timer, a fault.
#include "../common.h"

static volatile sig_atomic_t got;
static void info(int s, siginfo_t *i, void *u) {
    (void)u;
    printf("%s signo %d errno %d code %d", sig_name(s), i->si_signo == s, i->si_errno, i->si_code);
    if (i->si_code == SI_USER || i->si_code == SI_TKILL || i->si_code == SI_QUEUE)
        printf(" pid %d uid %d", i->si_pid == getpid(), i->si_uid == getuid());
    if (i->si_code == SI_QUEUE || i->si_code == SI_TIMER)
        printf(" value %d", i->si_value.sival_int);
    if (s == SIGCHLD)
        printf(" status %d uid %d", i->si_status, i->si_uid == getuid());
    puts("");
    got = 1;
}
static void until(void) {
    while (!got)
        sleep_ms(1);
    got = 0;
}

int main(void) {
    struct sigaction a = {.sa_sigaction = info, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &a, NULL);
    sigaction(SIGCHLD, &a, NULL);
    sigaction(SIGALRM, &a, NULL);
    sigaction(SIGRTMIN, &a, NULL);
    kill(getpid(), SIGUSR1);
    until();
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
    until();
    syscall(SYS_tkill, syscall(SYS_gettid), SIGUSR1);
    until();
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 1234});
    until();
    no_core();
    for (int how = 0; how < 3; how++) {
        pid_t p = fork();
        if (p == 0) {
            if (how == 0)
                _exit(17);
            if (how == 1)
                raise(SIGKILL);
            signal(SIGABRT, SIG_DFL);
            abort();
        }
        until();
        wait_show("child", p);
    }
    struct itimerval it = {{0, 0}, {0, 1000}};
    setitimer(ITIMER_REAL, &it, NULL);
    until();
    timer_t t;
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77};
    SHOW(timer_create(CLOCK_MONOTONIC, &ev, &t));
    struct itimerspec ts = {{0, 0}, {0, 1000000}};
    MUST(timer_settime(t, 0, &ts, NULL) == 0);
    until();
    return done();
}
