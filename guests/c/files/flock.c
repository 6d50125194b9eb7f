// modes: static dynamic musl
// flock: shared and exclusive, by description, conversion, kept over fork, freed at the last close, EINTR.
#include "../common.h"
#include <sys/file.h>

static void on_alarm(int s) { (void)s; }

int main(void) {
    int a = open("f", O_RDWR | O_CREAT, 0644), b = open("f", O_RDONLY);
    SHOW(flock(a, LOCK_SH));
    SHOW(flock(b, LOCK_SH | LOCK_NB));
    SHOW(flock(a, LOCK_EX | LOCK_NB));
    SHOW(flock(b, LOCK_UN));
    SHOW(flock(a, LOCK_EX | LOCK_NB));
    SHOW(flock(b, LOCK_SH | LOCK_NB));
    int d = dup(a);
    SHOW(flock(d, LOCK_EX | LOCK_NB));
    SHOW(flock(b, LOCK_UN));
    close(a);
    SHOW(flock(b, LOCK_EX | LOCK_NB));
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    SHOW(fcntl(d, F_SETLK, &l)); /* another kind: no conflict */
    struct sigaction sa = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval t = {{0, 5000}, {0, 5000}};
    setitimer(ITIMER_REAL, &t, NULL);
    SHOW(flock(b, LOCK_EX));
    t = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &t, NULL);
    int p[2];
    MUST(pipe(p) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(p[1]);
        char c;
        (void)!read(p[0], &c, 1); /* until the parent has closed its copies */
        _exit(0);
    }
    close(d);
    SHOW(flock(b, LOCK_SH | LOCK_NB)); /* the child still holds the description */
    close(p[1]);
    wait_show("child", pid);
    SHOW(flock(b, LOCK_SH | LOCK_NB));
    SHOW(flock(b, 0));
    SHOW(flock(b, LOCK_SH | LOCK_UN));
    SHOW(flock(99, LOCK_SH));
    return done();
}
