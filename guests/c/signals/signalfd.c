// modes: static dynamic musl
// signalfd: reads blocked signals as records, several at once, in poll, changed mask, errors.
#include "../common.h"
#include <poll.h>
#include <sys/signalfd.h>

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    struct signalfd_siginfo i[4];
    SHOW(read(fd, i, sizeof i));
    struct pollfd p = {fd, POLLIN, 0};
    SHOW(poll(&p, 1, 0));
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 5});
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 6});
    SHOW(poll(&p, 1, 0));
    SHOW(read(fd, i, sizeof i));
    for (int k = 0; k < 3; k++)
        printf("%s code %d value %d pid %d\n", sig_name((int)i[k].ssi_signo), i[k].ssi_code, i[k].ssi_int, (int)i[k].ssi_pid == getpid());
    SHOW(read(fd, i, sizeof i));
    SHOW(read(fd, i, 100));
    sigset_t two;
    sigemptyset(&two);
    sigaddset(&two, SIGUSR2);
    sigprocmask(SIG_BLOCK, &two, NULL);
    CHECK(signalfd(fd, &two, 0) == fd);
    raise(SIGUSR1);
    SHOW(read(fd, i, sizeof i));
    raise(SIGUSR2);
    SHOW(read(fd, i, sizeof i));
    puts(sig_name((int)i[0].ssi_signo));
    pid_t c = fork();
    if (c == 0) { /* reads the signals of the reader, not of the creator */
        sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 9});
        MUST(read(fd, i, sizeof i) == 128);
        SHOW(i[0].ssi_int);
        child_exit(0);
    }
    wait_show("child", c);
    SHOW(signalfd(0, &two, 0));
    SHOW(signalfd(99, &two, 0));
    SHOW(signalfd(-1, &two, 0x100));
    SHOW(syscall(SYS_signalfd4, -1, &two, 4L, 0));
    SHOW(write(fd, i, 128));
    return done();
}
