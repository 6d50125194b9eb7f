// modes: static dynamic musl
// madvise: DONTNEED zeroes private pages and rereads files, FREE, DONTFORK, WIPEONFORK, REMOVE, errors.
#include "../common.h"
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MADV_FREE
#define MADV_FREE 8
#endif

int main(void) {
    int rw = PROT_READ | PROT_WRITE;
    char *a = mmap(NULL, 8 * 4096, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(a, 'x', 8 * 4096);
    SHOW(madvise(a + 4096, 8192, MADV_DONTNEED));
    CHECK(a[0] == 'x' && a[4096] == 0 && a[3 * 4096 - 1] == 0 && a[3 * 4096] == 'x');
    SHOW(madvise(a, 4096, MADV_FREE));
    CHECK(a[0] == 'x' || a[0] == 0);
    a[0] = 'y'; /* a write keeps it */
    CHECK(a[0] == 'y');
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    MUST(write(fd, "file", 4) == 4);
    char *p = mmap(NULL, 4096, rw, MAP_PRIVATE, fd, 0);
    p[0] = 'P';
    SHOW(madvise(p, 4096, MADV_DONTNEED));
    CHECK(p[0] == 'f');
    char *s = mmap(NULL, 4096, rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    s[0] = 's';
    SHOW(madvise(s, 4096, MADV_DONTNEED));
    CHECK(s[0] == 's');
    SHOW(madvise(s, 4096, MADV_REMOVE));
    CHECK(s[0] == 0);
    SHOW(madvise(p, 4096, MADV_FREE));
    SHOW(madvise(a + 4 * 4096, 4096, MADV_DONTFORK));
    int wipe = madvise(a + 5 * 4096, 4096, MADV_WIPEONFORK);
    SHOW(wipe);
    no_core();
    pid_t c = fork();
    if (c == 0) {
        CHECK(a[3 * 4096] == 'x' && (wipe || a[5 * 4096] == 0));
        CHECK(write(1, a + 4 * 4096, 1) == -1 && errno == EFAULT);
        child_exit(0);
    }
    wait_show("child", c);
    CHECK(a[4 * 4096] == 'x' && a[5 * 4096] == 'x');
    const int harmless[] = {MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, 14, 15, 16, 17};
    for (unsigned i = 0; i < sizeof harmless / sizeof *harmless; i++)
        printf("advice %d: %s\n", harmless[i], madvise(a, 4096, harmless[i]) ? err_name(errno) : "ok");
    SHOW(madvise(a, 4096, 9999));
    SHOW(madvise(a + 1, 4096, MADV_DONTNEED));
    SHOW(madvise(a, 0, MADV_DONTNEED));
    munmap(a + 4096, 4096);
    SHOW(madvise(a, 3 * 4096, MADV_DONTNEED));
    CHECK(a[2 * 4096] == 0); /* the part behind the hole was done too */
    return done();
}
