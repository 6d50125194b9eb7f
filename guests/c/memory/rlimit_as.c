// modes: static dynamic musl
// RLIMIT_AS: mmap, brk and mremap answer ENOMEM at the limit; fork and the rest go on.
#include "../common.h"

int main(void) {
    int rw = PROT_READ | PROT_WRITE, kind = MAP_PRIVATE | MAP_ANONYMOUS;
    char *m = mmap(NULL, 1 << 20, rw, kind, -1, 0);
    struct rlimit r = {256 << 20, RLIM_INFINITY};
    SHOW(setrlimit(RLIMIT_AS, &r));
    CHECK(mmap(NULL, 512 << 20, rw, kind, -1, 0) == MAP_FAILED && errno == ENOMEM);
    CHECK(mmap(NULL, 512 << 20, PROT_NONE, kind | MAP_NORESERVE, -1, 0) == MAP_FAILED && errno == ENOMEM);
    char *fits = mmap(NULL, 64 << 20, rw, kind, -1, 0);
    CHECK(fits != MAP_FAILED);
    CHECK(mremap(m, 1 << 20, 512 << 20, MREMAP_MAYMOVE) == MAP_FAILED && errno == ENOMEM);
    void *huge = malloc(400 << 20);
    CHECK(huge == NULL);
    int n = 0;
    while (mmap(NULL, 16 << 20, PROT_NONE, kind, -1, 0) != MAP_FAILED)
        n++;
    CHECK(n > 0 && n < 16);
    pid_t p = fork();
    if (p == 0)
        child_exit(0);
    wait_show("child", p);
    SHOW(munmap(fits, 64 << 20));
    CHECK(mmap(NULL, 32 << 20, rw, kind, -1, 0) != MAP_FAILED);
    struct rlimit back;
    SHOW(getrlimit(RLIMIT_AS, &back));
    CHECK(back.rlim_cur == 256 << 20);
    return done();
}
