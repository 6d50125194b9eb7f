// modes: static dynamic musl
// pidfd_open, pidfd_send_signal, poll and waitid on a pidfd; errors.
#include "../common.h"
#include <poll.h>
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

int main(void) {
    int p[2];
    MUST(pipe(p) == 0);
    pid_t c = fork();
    if (c == 0) {
        char b;
        (void)!read(p[0], &b, 1);
        _exit(8);
    }
    int fd = (int)syscall(434, c, 0);
    CHECK(fd >= 0);
    SHOW(fcntl(fd, F_GETFD));
    struct pollfd pf = {fd, POLLIN, 0};
    SHOW(poll(&pf, 1, 0));
    SHOW(syscall(424, fd, 0, NULL, 0));
    MUST(write(p[1], "x", 1) == 1);
    SHOW(poll(&pf, 1, 60000));
    SHOW(pf.revents);
    siginfo_t i;
    SHOW(waitid((idtype_t)P_PIDFD, (id_t)fd, &i, WEXITED));
    CHECK(i.si_pid == c && i.si_status == 8);
    SHOW(syscall(424, fd, SIGTERM, NULL, 0));
    SHOW(syscall(434, 999999999, 0));
    SHOW(syscall(434, -1, 0));
    SHOW(syscall(434, getpid(), 0xffff));
    c = fork();
    if (c == 0)
        for (;;)
            pause();
    fd = (int)syscall(434, c, 0);
    SHOW(syscall(424, fd, SIGKILL, NULL, 0));
    wait_show("child", c);
    /* A directory of a process in /proc will do, and nothing else there. */
    char path[64];
    snprintf(path, sizeof path, "/proc/%d", (int)getpid());
    int dir = open(path, O_RDONLY | O_DIRECTORY);
    MUST(dir >= 0);
    SHOW(syscall(424, dir, 0, NULL, 0));
    SHOW(waitid((idtype_t)P_PIDFD, (id_t)dir, &i, WEXITED | WNOHANG));
    snprintf(path, sizeof path, "/proc/%d/task/%d", (int)getpid(), (int)getpid());
    SHOW(syscall(424, open(path, O_RDONLY | O_DIRECTORY), 0, NULL, 0));
    SHOW(syscall(424, open("/proc/self/task", O_RDONLY | O_DIRECTORY), 0, NULL, 0));
    SHOW(syscall(424, open("/proc", O_RDONLY | O_DIRECTORY), 0, NULL, 0));
    snprintf(path, sizeof path, "/proc/%d", (int)getpid());
    SHOW(syscall(424, open(path, O_PATH), 0, NULL, 0));
    c = fork();
    if (c == 0)
        for (;;)
            pause();
    snprintf(path, sizeof path, "/proc/%d", (int)c);
    dir = open(path, O_RDONLY | O_DIRECTORY);
    SHOW(syscall(424, dir, SIGKILL, NULL, 0));
    wait_show("child", c);
    SHOW(syscall(424, dir, 0, NULL, 0));
    SHOW(syscall(424, 0, 0, NULL, 0));
    SHOW(syscall(424, 99, 0, NULL, 0));
    return done();
}
