// modes: static dynamic musl
// mremap: shrink, grow in place, move, fixed target, contents kept, DONTUNMAP, errors.
#include "../common.h"
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

int main(void) {
    int kind = MAP_PRIVATE | MAP_ANONYMOUS, rw = PROT_READ | PROT_WRITE;
    char *area = mmap(NULL, 64 * 4096, PROT_NONE, kind | MAP_NORESERVE, -1, 0);
    char *a = mmap(area, 4 * 4096, rw, kind | MAP_FIXED, -1, 0);
    for (int i = 0; i < 4; i++)
        a[i * 4096] = (char)('a' + i);
    CHECK(mremap(a, 4 * 4096, 2 * 4096, 0) == a);
    CHECK(write(1, a + 2 * 4096, 1) == -1 && errno == EFAULT);
    CHECK(mremap(a, 2 * 4096, 4 * 4096, 0) == a && a[2 * 4096] == 0); /* the hole it left */
    CHECK(mremap(a, 4 * 4096, 8 * 4096, 0) == MAP_FAILED && errno == ENOMEM);
    char *b = mremap(a, 4 * 4096, 8 * 4096, MREMAP_MAYMOVE);
    CHECK(b != MAP_FAILED && b != a && b[0] == 'a' && b[4096] == 'b' && b[7 * 4096] == 0);
    CHECK(write(1, a, 1) == -1 && errno == EFAULT);
    char *c = mremap(b, 8 * 4096, 8 * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, area + 32 * 4096);
    CHECK(c == area + 32 * 4096 && c[4096] == 'b');
    char *d = mremap(c + 4096, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, area);
    CHECK(d == area && d[0] == 'b');
    CHECK(c[0] == 'a' && write(1, c + 4096, 1) == -1);
    c[2 * 4096] = 'q';
    char *e = mremap(c + 2 * 4096, 4096, 4096, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    if (e != MAP_FAILED)
        CHECK(e[0] == 'q' && c[2 * 4096] == 0);
    else
        CHECK(errno == EINVAL);
    CHECK(mremap(a + 1, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(c, 4096, 0, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(c, 4096, 8192, MREMAP_FIXED, area) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(c, 4096, 4096, 0x100) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap((void *)0x10000, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
    CHECK(mremap(c, 4096, 8192, MREMAP_MAYMOVE | MREMAP_FIXED, c + 4096) != c);
    int *s = mmap(NULL, 4096, rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    s[0] = 42;
    int *twin = mremap(s, 0, 4096, MREMAP_MAYMOVE); /* old size 0 of a shared mapping: a second view */
    CHECK(twin != MAP_FAILED && twin != s && twin[0] == 42);
    twin[0] = 43;
    CHECK(s[0] == 43);
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    MUST(ftruncate(fd, 8192) == 0 && pwrite(fd, "second", 6, 4096) == 6);
    char *f = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    char *g = mremap(f, 4096, 8192, MREMAP_MAYMOVE);
    CHECK(g != MAP_FAILED && memcmp(g + 4096, "second", 6) == 0);
    return done();
}
