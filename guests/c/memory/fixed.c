// modes: static dynamic musl
// MAP_FIXED replaces what is there, page by page; MAP_FIXED_NOREPLACE refuses.
#include "../common.h"
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

int main(void) {
    int kind = MAP_PRIVATE | MAP_ANONYMOUS;
    char *a = mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE, kind, -1, 0);
    memset(a, 'x', 5 * 4096);
    char *b = mmap(a + 4096, 2 * 4096, PROT_READ | PROT_WRITE, kind | MAP_FIXED, -1, 0);
    CHECK(b == a + 4096);
    CHECK(a[4095] == 'x' && b[0] == 0 && b[8191] == 0 && a[3 * 4096] == 'x');
    errno = 0;
    CHECK(mmap(a, 4096, PROT_READ, kind | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST);
    CHECK(mmap(a - 4096 + 4096 * 4, 8192, PROT_READ, kind | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST);
    CHECK(a[0] == 'x');
    SHOW(munmap(a + 4096, 4096));
    CHECK(mmap(a + 4096, 4096, PROT_READ, kind | MAP_FIXED_NOREPLACE, -1, 0) == a + 4096);
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    MUST(write(fd, "file", 4) == 4);
    CHECK(mmap(a, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == a);
    CHECK(memcmp(a, "file", 5) == 0);
    CHECK(mmap(a, 5 * 4096, PROT_NONE, kind | MAP_FIXED, -1, 0) == a);
    CHECK(write(1, a, 1) == -1 && errno == EFAULT);
    CHECK(mmap(a + 1, 4096, PROT_READ, kind | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EINVAL);
    /* A failing MAP_FIXED leaves the old mapping alone when its arguments are bad. */
    char *c = mmap(NULL, 4096, PROT_READ | PROT_WRITE, kind, -1, 0);
    c[0] = 'k';
    CHECK(mmap(c, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, 99, 0) == MAP_FAILED && errno == EBADF);
    CHECK(c[0] == 'k');
    return done();
}
