// modes: static dynamic musl
// truncate and ftruncate: shrink, grow with zeroes, errors.
#include "../common.h"

int main(void) {
    char b[32];
    put_file("f", "0123456789");
    SHOW(truncate("f", 4));
    show_file("f");
    SHOW(truncate("f", 8));
    int fd = open("f", O_RDWR);
    SHOW(read(fd, b, sizeof b));
    CHECK(memcmp(b, "0123\0\0\0\0", 8) == 0);
    SHOW(ftruncate(fd, 2));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(read(fd, b, sizeof b));
    SHOW(write(fd, "Z", 1));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(pread(fd, b, sizeof b, 0));
    CHECK(memcmp(b, "01\0\0\0\0\0\0Z", 9) == 0);
    SHOW(ftruncate(fd, -1));
    SHOW(truncate("f", -1));
    SHOW(truncate("none", 0));
    SHOW(truncate(".", 0));
    SHOW(truncate("f/x", 0));
    SHOW(syscall(SYS_truncate, BAD, 0L));
    SHOW(ftruncate(99, 0));
    int ro = open("f", O_RDONLY);
    SHOW(ftruncate(ro, 0));
    int p[2];
    MUST(pipe(p) == 0);
    SHOW(ftruncate(p[1], 0));
    SHOW(ftruncate(fd, 1L << 33));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(ftruncate(fd, 0));
    return done();
}
