// modes: static dynamic musl
// Shared and private file mappings, read and write beside them, msync, offsets, tails of pages, errors.
#include "../common.h"

int main(void) {
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    static char page[4096];
    memset(page, 'a', sizeof page);
    MUST(write(fd, page, 4096) == 4096 && write(fd, "bcd", 3) == 3);
    char *s = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *t = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 4096);
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    MUST(s != MAP_FAILED && t != MAP_FAILED && p != MAP_FAILED);
    CHECK(s[0] == 'a' && s[4096] == 'b' && s[4099] == 0 && s[8191] == 0);
    p[0] = 'P';
    CHECK(s[0] == 'a');
    s[1] = 'S';
    CHECK(p[4096] == 'b');
    s[4096] = 'T';
    CHECK(t[0] == 'T');
    char b[8] = {0};
    SHOW(pread(fd, b, 4, 0));
    puts(b);
    SHOW(pwrite(fd, "W", 1, 2));
    CHECK(s[2] == 'W');
    s[4100] = 'Z'; /* behind the end: not in the file */
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(msync(s, 8192, MS_SYNC));
    SHOW(msync(s, 8192, MS_ASYNC));
    SHOW(msync(s, 8192, MS_SYNC | MS_ASYNC));
    SHOW(msync(s + 1, 4096, MS_SYNC));
    SHOW(msync((void *)0x10000, 4096, MS_SYNC));
    SHOW(munmap(s, 8192));
    close(fd);
    CHECK(t[0] == 'T'); /* a mapping outlives the descriptor */
    fd = open("f", O_RDONLY);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EACCES);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) != MAP_FAILED);
    char *r = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    SHOW(mprotect(r, 4096, PROT_READ | PROT_WRITE));
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 1) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, 4096, PROT_READ, 0, fd, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, 99, 0) == MAP_FAILED && errno == EBADF);
    int wo = open("f", O_WRONLY), dir = open(".", O_RDONLY), q[2];
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, wo, 0) == MAP_FAILED && errno == EACCES);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, dir, 0) == MAP_FAILED && errno == ENODEV);
    MUST(pipe(q) == 0);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, q[0], 0) == MAP_FAILED && errno == ENODEV);
    return done();
}
