// modes: static dynamic musl
// racy
// Random bytes, addresses and process ids decide the way; the result is the same.
#include "../common.h"

int main(void) {
    unsigned char r[64];
    MUST(syscall(SYS_getrandom, r, sizeof r, 0) == sizeof r);
    unsigned seed = (unsigned)(uintptr_t)r ^ (unsigned)getpid() ^ (unsigned)time(NULL);
    for (int i = 0; i < 64; i++)
        seed = seed * 31 + r[i];
    printf("seed %u\n", seed);
    srand(seed);
    int a[1000];
    for (int i = 0; i < 1000; i++)
        a[i] = i;
    for (int i = 999; i > 0; i--) {
        int k = rand() % (i + 1), t = a[i];
        a[i] = a[k], a[k] = t;
    }
    printf("first %d %d %d\n", a[0], a[1], a[2]);
    int moved = 0, sum = 0;
    for (int i = 0; i < 1000; i++) {
        moved += a[i] != i;
        sum += a[i];
    }
    printf("invariant sum %d shuffled %d\n", sum, moved > 500);
    return 0;
}
