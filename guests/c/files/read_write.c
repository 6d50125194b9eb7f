// modes: static dynamic musl
// read, write, pread, pwrite, lseek: values, positions, zero lengths, errors.
#include "../common.h"

int main(void) {
    char b[64] = {0};
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    MUST(fd >= 0);
    SHOW(write(fd, "0123456789", 10));
    SHOW(lseek(fd, 3, SEEK_SET));
    SHOW(read(fd, b, 4));
    printf("%s\n", b);
    SHOW(pread(fd, b, 3, 0));
    printf("%.3s\n", b);
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(pwrite(fd, "XY", 2, 8));
    SHOW(pwrite(fd, "far", 3, 20));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(lseek(fd, -3, SEEK_END));
    SHOW(read(fd, b, sizeof b));
    SHOW(read(fd, b, sizeof b));
    SHOW(pread(fd, b, sizeof b, 23));
    SHOW(pread(fd, b, sizeof b, 1000));
    SHOW(pread(fd, b, 14, 8));
    for (int i = 0; i < 14; i++)
        printf("%d ", b[i]);
    puts("");
    SHOW(lseek(fd, -1, SEEK_SET));
    SHOW(lseek(fd, 0, 99));
    SHOW(lseek(fd, 1LL << 40, SEEK_SET));
    SHOW(read(fd, b, 1));
    SHOW(lseek(fd, LONG_MAX, SEEK_CUR));
    SHOW(pread(fd, b, 1, -1));
    SHOW(pwrite(fd, b, 1, -1));
    SHOW(read(fd, b, 0));
    SHOW(write(fd, b, 0));
    SHOW(read(fd, NULL, 0));
    SHOW(read(99, b, 1));
    SHOW(read(-1, b, 0));
    SHOW(write(99, b, 1));
    SHOW(lseek(99, 0, SEEK_SET));
    lseek(fd, 0, SEEK_SET);
    SHOW(read(fd, BAD, 5));
    SHOW(write(fd, BAD, 5));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(read(fd, b, (size_t)-1));
    int p[2];
    MUST(pipe(p) == 0);
    SHOW(lseek(p[0], 0, SEEK_CUR));
    SHOW(pread(p[0], b, 1, 0));
    SHOW(pwrite(p[1], b, 1, 0));
    int d = open(".", O_RDONLY);
    SHOW(read(d, b, 1));
    SHOW(write(d, b, 1));
    SHOW(pread(d, b, 1, 0));
    return done();
}
