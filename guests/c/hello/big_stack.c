// modes: static dynamic musl
// Seven of the stack's eight megabytes are there without asking, deep recursion included.
#include "../common.h"

static __attribute__((noinline)) int depth(int n) {
    volatile char pad[1000];
    pad[0] = (char)n;
    pad[999] = 1;
    return n == 0 ? 0 : depth(n - 1) + pad[999];
}

static __attribute__((noinline)) unsigned wide(void) {
    volatile char big[6 << 20];
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof big; i += 4096)
        big[i] = (char)(i >> 12);
    for (size_t i = 0; i < sizeof big; i += 4096)
        sum += (unsigned char)big[i];
    return sum;
}

int main(void) {
    struct rlimit r;
    SHOW(getrlimit(RLIMIT_STACK, &r));
    CHECK(r.rlim_cur >= 8 << 20);
    SHOW(depth(6000));
    SHOW(wide());
    return done();
}
