// modes: static dynamic musl
// Two processes that wait for each other's record locks: the second gets EDEADLK. A signal ends a wait with EINTR.
#include "../common.h"

static int lock(int fd, int cmd, short type, off_t at) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    return fcntl(fd, cmd, &l);
}
static void on_alarm(int s) { (void)s; }

int main(void) {
    int fd = open("f", O_RDWR | O_CREAT, 0644), a[2];
    char c;
    MUST(pipe(a) == 0);
    SHOW(lock(fd, F_SETLK, F_WRLCK, 0));
    pid_t p = fork();
    if (p == 0) {
        MUST(lock(fd, F_SETLK, F_WRLCK, 1) == 0);
        MUST(write(a[1], "x", 1) == 1);
        int r = lock(fd, F_SETLKW, F_WRLCK, 0);

        _exit(r == 0 ? 10 : errno == EDEADLK ? 11 : 12);
    }
    MUST(read(a[0], &c, 1) == 1);
    int r = lock(fd, F_SETLKW, F_WRLCK, 1), e = errno;
    MUST(lock(fd, F_SETLK, F_UNLCK, 0) == 0 || r == 0);
    int st;
    MUST(waitpid(p, &st, 0) == p);
    /* who waits last is told; the order is the scheduler's */
    CHECK((r == -1 && e == EDEADLK && WEXITSTATUS(st) == 10) || (r == 0 && WEXITSTATUS(st) == 11));
    MUST(lock(fd, F_SETLK, F_WRLCK, 5) == 0);
    p = fork();
    if (p == 0) {
        struct sigaction sa = {.sa_handler = on_alarm};
        sigaction(SIGALRM, &sa, NULL);
        struct itimerval t = {{0, 5000}, {0, 5000}};
        setitimer(ITIMER_REAL, &t, NULL);
        SHOW(lock(fd, F_SETLKW, F_WRLCK, 5));
        child_exit(0);
    }
    wait_show("waiter", p);
    return done();
}
