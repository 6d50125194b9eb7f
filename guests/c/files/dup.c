// modes: static dynamic musl
// dup, dup2, dup3 and fcntl F_DUPFD: numbers, shared position, the close-on-exec flag, errors.
#include "../common.h"

int main(void) {
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    SHOW(fd);
    SHOW(dup(fd));
    SHOW(write(fd, "abc", 3));
    SHOW(lseek(4, 0, SEEK_CUR));
    SHOW(lseek(4, 1, SEEK_SET));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(dup2(fd, 10));
    SHOW(dup2(fd, fd));
    SHOW(dup2(99, 98));
    SHOW(dup2(99, 99));
    SHOW(dup2(fd, -1));
    SHOW(dup(99));
    SHOW(dup(-1));
    SHOW(dup3(fd, 10, O_CLOEXEC));
    SHOW(fcntl(10, F_GETFD));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(dup3(fd, fd, 0));
    SHOW(dup3(fd, 11, O_NONBLOCK));
    SHOW(fcntl(fd, F_DUPFD, 20));
    SHOW(fcntl(fd, F_DUPFD, 20));
    SHOW(fcntl(fd, F_DUPFD_CLOEXEC, 20));
    SHOW(fcntl(22, F_GETFD));
    SHOW(fcntl(fd, F_DUPFD, -1));
    SHOW(fcntl(fd, F_DUPFD, 1 << 30));
    SHOW(close(fd));
    SHOW(write(10, "Z", 1));
    show_file("f");
    SHOW(dup(10));
    SHOW(fcntl(10, F_SETFD, 0));
    SHOW(fcntl(10, F_GETFD));
    int other = open("g", O_WRONLY | O_CREAT, 0644);
    SHOW(dup2(other, 10));
    SHOW(write(10, "other", 5));
    show_file("g");
    struct rlimit r = {50, 50};
    SHOW(setrlimit(RLIMIT_NOFILE, &r));
    SHOW(dup2(other, 50));
    SHOW(dup2(other, 49));
    return done();
}
