// modes: static dynamic musl
// Huge reservations cost nothing until they are used: 64 GiB PROT_NONE, parts made usable, given back.
#include "../common.h"

int main(void) {
    size_t size = (size_t)64 << 30;
    char *m = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(m != MAP_FAILED);
    for (int i = 0; i < 32; i++) {
        char *p = m + ((size_t)i << 31);
        MUST(mprotect(p, 65536, PROT_READ | PROT_WRITE) == 0);
        p[0] = (char)i;
        p[65535] = (char)i;
    }
    int sum = 0;
    for (int i = 0; i < 32; i++)
        sum += m[(size_t)i << 31];
    SHOW(sum);
    SHOW(madvise(m, 1 << 30, MADV_DONTNEED));
    CHECK(m[0] == 0 && m[(size_t)1 << 31] == 1);
    pid_t p = fork();
    if (p == 0)
        child_exit(m[(size_t)5 << 31] == 5 ? 0 : 1);
    wait_show("child", p);
    char *w = mmap(NULL, (size_t)16 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(w != MAP_FAILED);
    w[(size_t)15 << 30] = 1;
    SHOW(munmap(m, size));
    SHOW(munmap(w, (size_t)16 << 30));
    return done();
}
