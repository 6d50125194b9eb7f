// modes: static dynamic musl
// Open-file-description locks belong to the description: two opens in one process conflict, duplicates and forks share.
#include "../common.h"
#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#endif

static int lock(int fd, int cmd, short type, off_t start, off_t len) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, cmd, &l);
}

int main(void) {
    int a = open("f", O_RDWR | O_CREAT, 0644), b = open("f", O_RDWR), c = dup(a);
    SHOW(lock(a, F_OFD_SETLK, F_WRLCK, 0, 10));
    SHOW(lock(b, F_OFD_SETLK, F_RDLCK, 5, 1));
    SHOW(lock(b, F_OFD_SETLK, F_RDLCK, 10, 1));
    SHOW(lock(c, F_OFD_SETLK, F_RDLCK, 0, 10));
    SHOW(lock(b, F_OFD_SETLK, F_RDLCK, 5, 1));
    SHOW(lock(b, F_SETLK, F_WRLCK, 0, 1));
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1};
    SHOW(fcntl(b, F_OFD_GETLK, &l));
    printf("type %d at %ld+%ld pid %d\n", l.l_type, (long)l.l_start, (long)l.l_len, l.l_pid);
    l.l_pid = 1;
    SHOW(fcntl(a, F_OFD_SETLK, &l));
    close(c);
    SHOW(lock(b, F_OFD_SETLK, F_WRLCK, 0, 1)); /* closing a duplicate released nothing */
    pid_t p = fork();
    if (p == 0) {
        close(a);
        _exit(0);
    }
    wait_show("child", p);
    SHOW(lock(b, F_OFD_SETLK, F_WRLCK, 0, 1));
    SHOW(close(a));
    SHOW(lock(b, F_OFD_SETLKW, F_WRLCK, 0, 1));
    SHOW(close(b));
    return done();
}
