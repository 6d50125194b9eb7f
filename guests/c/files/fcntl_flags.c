// modes: static dynamic musl
// F_GETFL, F_SETFL: what is kept, what can be changed, what a duplicate shares.
#include "../common.h"

static void flags(int fd) { printf("fd %d: %#x\n", fd, fcntl(fd, F_GETFL)); }

int main(void) {
    int fd = open("f", O_RDWR | O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC, 0644);
    flags(fd);
    SHOW(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK));
    flags(fd);
    int d = dup(fd);
    SHOW(fcntl(d, F_SETFL, O_WRONLY | O_CREAT | O_TRUNC));
    flags(fd);
    int w = open("f", O_WRONLY | O_APPEND | O_NONBLOCK | O_SYNC);
    flags(w);
    int r = open("f", O_RDONLY | O_NOFOLLOW);
    flags(r);
    int dir = open(".", O_RDONLY | O_DIRECTORY);
    flags(dir);
    int path = open("f", O_PATH | O_CLOEXEC);
    flags(path);
    int p[2];
    MUST(pipe2(p, O_NONBLOCK | O_CLOEXEC) == 0);
    flags(p[0]);
    flags(p[1]);
    SHOW(fcntl(p[0], F_GETFD));
    SHOW(fcntl(99, F_GETFL));
    SHOW(fcntl(99, F_GETFD));
    SHOW(fcntl(fd, 9999, 0));
    SHOW(fcntl(fd, F_SETFD, FD_CLOEXEC | 0x100));
    SHOW(fcntl(fd, F_GETFD));
    return done();
}
