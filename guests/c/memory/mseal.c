/* mseal(2): a sealed range can be used, and not unmapped, moved, changed or emptied (Linux 6.10). */
#include "../common.h"
#define NR_mseal 462
static long seal(void *p, size_t n, unsigned long f) { return syscall(NR_mseal, p, n, f); }

int main(void) {
    long page = 4096;
    char *p = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(p != MAP_FAILED);
    memset(p, 'a', 8 * page);
    SHOW(seal(p + 1, page, 0));
    SHOW(seal(p, page, 1));
    SHOW(seal(p, 0, 0));
    SHOW(seal(p, -1UL, 0));
    munmap(p + 7 * page, page);
    SHOW(seal(p + 6 * page, 2 * page, 0));
    SHOW(seal(p + 2 * page, 2 * page, 0));
    SHOW(seal(p + 2 * page, 2 * page, 0));
    p[2 * page] = 'b';
    CHECK(p[2 * page] == 'b');
    SHOW(munmap(p + 2 * page, page));
    SHOW(munmap(p, 7 * page));
    SHOW(mprotect(p + 3 * page, page, PROT_READ));
    SHOW(mprotect(p + page, 2 * page, PROT_READ));
    CHECK(mmap(p + 2 * page, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EPERM);
    CHECK(mremap(p + 2 * page, page, 2 * page, MREMAP_MAYMOVE) == MAP_FAILED && errno == EPERM);
    char *q = mmap(NULL, 2 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(q != MAP_FAILED);
    CHECK(mremap(q, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, p + 2 * page) == MAP_FAILED && errno == EPERM);
    /* Writable anonymous memory may be emptied: whoever seals it can write zeroes too. */
    SHOW(madvise(p + 2 * page, page, MADV_DONTNEED));
    CHECK(p[2 * page] == 0);
    SHOW(seal(q, 2 * page, 0));
    SHOW(madvise(q, page, MADV_DONTNEED));
    SHOW(madvise(q, page, MADV_WILLNEED));
    SHOW(madvise(q, page, MADV_FREE));
    pid_t pid = fork();
    if (pid == 0)
        child_exit(munmap(q, page) == -1 && errno == EPERM ? 0 : 1);
    int st;
    MUST(waitpid(pid, &st, 0) == pid);
    CHECK(st == 0);
    return done();
}
