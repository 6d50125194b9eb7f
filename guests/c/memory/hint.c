// modes: static dynamic musl
// Address hints: taken when free, passed over when not, rounded down.
#include "../common.h"

int main(void) {
    char *a = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(munmap(a, 1 << 20) == 0);
    char *h = mmap(a + 8192, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(h == a + 8192);
    char *again = mmap(a + 8192, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(again != MAP_FAILED && again != h);
    char *odd = mmap(a + 65536 + 100, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK((uintptr_t)odd % 4096 == 0 && odd != MAP_FAILED);
    char *far = mmap((void *)0x200000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(far == (void *)0x200000000);
    char *kernel = mmap((void *)0xffff800000000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(kernel != MAP_FAILED && (uintptr_t)kernel < 1UL << 47);
    return done();
}
