// modes: static dynamic musl
// sigwaitinfo, sigtimedwait and sigwait take pending signals without a handler; timeouts; which comes first.
#include "../common.h"

static void handler(int s) { printf("handler %s\n", sig_name(s)); }

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    siginfo_t i;
    struct timespec zero = {0, 0}, ms = {0, 2000000}, bad = {0, -1};
    SHOW(sigtimedwait(&set, &i, &zero));
    int64_t start = now_ns(CLOCK_MONOTONIC);
    SHOW(sigtimedwait(&set, &i, &ms));
    CHECK(now_ns(CLOCK_MONOTONIC) - start >= 2000000);
    SHOW(sigtimedwait(&set, &i, &bad));
    raise(SIGUSR2);
    kill(getpid(), SIGUSR1);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 5});
    for (int k = 0; k < 3; k++) {
        int s = sigwaitinfo(&set, &i);
        printf("%s code %d\n", sig_name(s), i.si_code);
    }
    SHOW(i.si_value.sival_int);
    int s;
    raise(SIGUSR1);
    SHOWE(sigwait(&set, &s));
    puts(sig_name(s));
    pid_t p = fork();
    if (p == 0)
        _exit(3);
    CHECK(sigwaitinfo(&set, &i) == SIGCHLD && i.si_pid == p && i.si_status == 3 && i.si_code == CLD_EXITED);
    wait_show("child", p);
    struct sigaction a = {.sa_handler = handler};
    sigaction(SIGALRM, &a, NULL);
    struct itimerval it = {{0, 3000}, {0, 3000}};
    setitimer(ITIMER_REAL, &it, NULL);
    int r = (int)syscall(SYS_rt_sigtimedwait, &set, &i, NULL, 8L), e = errno; /* musl's own call tries again */
    it = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &it, NULL);
    CHECK(r == -1 && e == EINTR);
    p = fork();
    if (p == 0) {
        sleep_ms(4);
        sigqueue(getppid(), SIGRTMIN, (union sigval){.sival_int = 99});
        _exit(0);
    }
    sigdelset(&set, SIGCHLD);
    CHECK(sigwaitinfo(&set, &i) == SIGRTMIN && i.si_value.sival_int == 99 && i.si_pid == p);
    wait_show("sender", p);
    SHOW(syscall(SYS_rt_sigtimedwait, &set, NULL, &zero, 4L));
    SHOW(syscall(SYS_rt_sigtimedwait, BAD, NULL, &zero, 8L));
    return done();
}
