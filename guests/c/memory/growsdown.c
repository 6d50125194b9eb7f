// modes: static dynamic musl
// A MAP_GROWSDOWN mapping grows at a touch right below it and stops at its neighbour's guard gap.
#include "../common.h"

int main(void) {
    char *area = mmap(NULL, 4 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(munmap(area, 4 << 20) == 0);
    char *m = mmap(area + (3 << 20), 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    MUST(m == area + (3 << 20));
    for (int i = 1; i <= 64; i++)
        m[-i * 4096] = (char)i;
    CHECK(m[-64 * 4096] == 64);
    CHECK(m[-1 * 4096] == 1);
    return done();
}
