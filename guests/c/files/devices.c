// modes: static dynamic musl
// /dev/null, zero, full, random, urandom: reads, writes, seeks, maps, ioctls.
#include "../common.h"
#include <sys/ioctl.h>

int main(void) {
    char b[64];
    int fd = open("/dev/null", O_RDWR);
    SHOW(write(fd, b, 64));
    SHOW(read(fd, b, 64));
    SHOW(lseek(fd, 10, SEEK_SET));
    SHOW(ftruncate(fd, 0));
    SHOW(ioctl(fd, TIOCGWINSZ, b));
    SHOW(isatty(fd));
    fd = open("/dev/zero", O_RDWR);
    memset(b, 1, sizeof b);
    SHOW(read(fd, b, 64));
    CHECK(memcmp(b, (char[64]){0}, 64) == 0);
    SHOW(write(fd, b, 64));
    SHOW(pread(fd, b, 10, 1000));
    char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(m != MAP_FAILED && m[0] == 0 && m[8191] == 0);
    m[0] = 1;
    int *sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(sh != MAP_FAILED);
    pid_t p = fork();
    if (p == 0) {
        *sh = 42;
        _exit(0);
    }
    wait_show("child", p);
    SHOW(*sh);
    fd = open("/dev/full", O_RDWR);
    SHOW(write(fd, b, 1));
    SHOW(read(fd, b, 4));
    const char *names[] = {"/dev/random", "/dev/urandom"};
    for (int i = 0; i < 2; i++) {
        unsigned char r[256] = {0}, s[256] = {0};
        fd = open(names[i], O_RDWR);
        SHOW(read(fd, r, 256));
        SHOW(read(fd, s, 256));
        CHECK(memcmp(r, s, 256) != 0);
        SHOW(write(fd, r, 8));
    }
    SHOW(syscall(SYS_getrandom, b, 64L, 0));
    SHOW(syscall(SYS_getrandom, b, 64L, 1));
    SHOW(syscall(SYS_getrandom, b, 64L, 0x100));
    SHOW(syscall(SYS_getrandom, BAD, 64L, 0));
    SHOW(syscall(SYS_getrandom, NULL, 0L, 0));
    SHOW(open("/dev/none", O_RDONLY));
    SHOW(open("/dev/null/x", O_RDONLY));
    SHOW(open("/dev/null", O_RDONLY | O_DIRECTORY));
    return done();
}
