// modes: static dynamic musl
// mlock, munlock, mlockall, their limit and errors; mincore.
#include "../common.h"

int main(void) {
    char *a = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char v[16];
    SHOW(mincore(a, 16 * 4096, v));
    int sum = 0;
    for (int i = 0; i < 16; i++)
        sum += v[i] & 1;
    SHOW(sum);
    a[4096 * 3] = 1;
    SHOW(mlock(a + 5 * 4096, 8192));
    SHOW(mincore(a, 16 * 4096, v));
    printf("%d %d %d\n", v[3] & 1, v[5] & 1, v[6] & 1);
    SHOW(mincore(a + 1, 4096, v));
    SHOW(mincore(a, 4096, BAD));
    SHOW(munlock(a + 5 * 4096, 8192));
    SHOW(mlock(a + 100, 10)); /* rounded to the page */
    SHOW(munlock(a, 16 * 4096));
    munmap(a + 4096, 4096);
    SHOW(mlock(a, 3 * 4096));
    SHOW(munlock(a, 3 * 4096));
    SHOW(mincore(a, 3 * 4096, v));
    SHOW(syscall(SYS_mlock2, a, 4096L, 1));
    SHOW(syscall(SYS_mlock2, a, 4096L, 8));
    SHOW(munlockall());
    SHOW(mlockall(0));
    SHOW(mlockall(0x100));
    return done();
}
