// modes: static dynamic musl
// POSIX record locks between processes: conflicts, upgrades, splits, release on any close, GETLK, deadlock.
#include "../common.h"

static int lock(int fd, int cmd, short type, off_t start, off_t len) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, cmd, &l);
}
static void who(int fd, short type, off_t start, off_t len, pid_t expected) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    MUST(fcntl(fd, F_GETLK, &l) == 0);
    if (l.l_type == F_UNLCK)
        puts("  nobody in the way");
    else
        printf("  %s lock at %ld+%ld by %s\n", l.l_type == F_RDLCK ? "read" : "write", (long)l.l_start, (long)l.l_len,
               l.l_pid == expected ? "the parent" : "somebody else");
}

int main(void) {
    int fd = open("f", O_RDWR | O_CREAT, 0644), go[2], back[2];
    char c;
    MUST(pipe(go) == 0 && pipe(back) == 0);
    SHOW(lock(fd, F_SETLK, F_WRLCK, 0, 100));
    SHOW(lock(fd, F_SETLK, F_RDLCK, 40, 10)); /* splits it into three */
    pid_t p = fork();
    if (p == 0) {
        pid_t parent = getppid();
        SHOW(lock(fd, F_SETLK, F_WRLCK, 0, 10));
        SHOW(lock(fd, F_SETLK, F_RDLCK, 0, 10));
        SHOW(lock(fd, F_SETLK, F_RDLCK, 42, 2));
        SHOW(lock(fd, F_SETLK, F_WRLCK, 100, 0));
        who(fd, F_WRLCK, 0, 100, parent);
        who(fd, F_WRLCK, 45, 100, parent);
        who(fd, F_RDLCK, 40, 10, parent);
        who(fd, F_RDLCK, 300, 1, parent);
        MUST(write(back[1], "x", 1) == 1);
        SHOW(lock(fd, F_SETLKW, F_WRLCK, 0, 40)); /* waits until the parent lets go */
        child_exit(0);
    }
    MUST(read(back[0], &c, 1) == 1);
    SHOW(lock(fd, F_SETLK, F_WRLCK, 150, 1));
    MUST(lock(fd, F_SETLK, F_UNLCK, 0, 0) == 0);
    wait_show("child", p);
    SHOW(lock(fd, F_SETLK, F_WRLCK, 0, 0)); /* the child's locks died with it */
    int other = open("f", O_RDWR);
    SHOW(close(other)); /* releases them all */
    p = fork();
    if (p == 0) {
        SHOW(lock(fd, F_SETLK, F_WRLCK, 0, 0));
        child_exit(0);
    }
    wait_show("child", p);
    int ro = open("f", O_RDONLY);
    SHOW(lock(ro, F_SETLK, F_WRLCK, 0, 1));
    SHOW(lock(ro, F_SETLK, F_RDLCK, 0, 1));
    SHOW(lock(fd, F_SETLK, 17, 0, 1));
    SHOW(lock(fd, F_SETLK, F_WRLCK, -5, 1));
    SHOW(lock(fd, F_SETLK, F_WRLCK, 10, -20));
    SHOW(lock(fd, F_SETLK, F_WRLCK, 10, -5));
    SHOW(lock(99, F_SETLK, F_WRLCK, 0, 1));
    SHOW(fcntl(fd, F_SETLK, BAD));
    return done();
}
