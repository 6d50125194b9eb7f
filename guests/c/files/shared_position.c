// modes: static dynamic musl
// Parent and child share one file position and status flags; independent opens do not.
#include "../common.h"

int main(void) {
    put_file("f", "0123456789");
    int fd = open("f", O_RDWR), own = open("f", O_RDONLY);
    char b[8] = {0};
    SHOW(read(fd, b, 2));
    pid_t p = fork();
    if (p == 0) {
        SHOW(read(fd, b, 3));
        printf("%.3s\n", b);
        SHOW(fcntl(fd, F_SETFL, O_APPEND));
        SHOW(lseek(own, 7, SEEK_SET));
        close(fd);
        child_exit(0);
    }
    wait_show("child", p);
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(lseek(own, 0, SEEK_CUR));
    printf("append %d\n", !!(fcntl(fd, F_GETFL) & O_APPEND));
    SHOW(write(fd, "end", 3));
    show_file("f");
    int c = open("f", O_RDONLY);
    SHOW(lseek(c, 0, SEEK_CUR));
    return done();
}
