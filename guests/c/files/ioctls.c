// modes: static dynamic musl
// FIONREAD, FIONBIO, FIOCLEX and ENOTTY on files, pipes and bad descriptors.
#include "../common.h"
#include <sys/ioctl.h>
#include <termios.h>

int main(void) {
    put_file("f", "0123456789");
    int fd = open("f", O_RDONLY), p[2], n = -5, on = 1;
    MUST(pipe(p) == 0 && write(p[1], "abc", 3) == 3);
    SHOW(ioctl(fd, FIONREAD, &n));
    SHOW(n);
    lseek(fd, 4, SEEK_SET);
    SHOW(ioctl(fd, FIONREAD, &n));
    SHOW(n);
    SHOW(ioctl(p[0], FIONREAD, &n));
    SHOW(n);
    SHOW(ioctl(p[0], FIONBIO, &on));
    SHOW(fcntl(p[0], F_GETFL) & O_NONBLOCK);
    on = 0;
    SHOW(ioctl(p[0], FIONBIO, &on));
    SHOW(fcntl(p[0], F_GETFL) & O_NONBLOCK);
    SHOW(ioctl(fd, FIOCLEX));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(ioctl(fd, FIONCLEX));
    SHOW(fcntl(fd, F_GETFD));
    struct termios t;
    struct winsize w;
    SHOW(tcgetattr(fd, &t));
    SHOW(ioctl(p[0], TIOCGWINSZ, &w));
    SHOW(ioctl(p[0], TCGETS, &t));
    SHOW(isatty(p[0]));
    SHOW(ioctl(99, FIONREAD, &n));
    SHOW(ioctl(p[0], FIONREAD, BAD));
    SHOW(ioctl(fd, 0x12345678, &n));
    SHOW(tcgetpgrp(fd));
    return done();
}
