// modes: static dynamic musl
// Anonymous mappings: zeroed, apart, protections, sizes rounded up, errors.
#include "../common.h"

int main(void) {
    char *a = mmap(NULL, 10000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(a != MAP_FAILED && (uintptr_t)a % 4096 == 0);
    int sum = 0;
    for (int i = 0; i < 12288; i++)
        sum |= a[i];
    CHECK(sum == 0);
    a[12287] = 1; /* the rest of the last page is there */
    char *b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(b + 4096 <= a || b >= a + 12288);
    SHOW(munmap(a, 10000));
    SHOW(munmap(a, 10000)); /* nothing there: no error */
    SHOW(munmap(a + 1, 4096));
    SHOW(munmap(a, 0));
    SHOW(munmap((void *)-4096, 4096));
#define TRY(...) printf("%-70s %s\n", #__VA_ARGS__, mmap(__VA_ARGS__) == MAP_FAILED ? err_name(errno) : "ok")
    TRY(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRY(NULL, 4096, PROT_READ, MAP_ANONYMOUS, -1, 0);
    TRY(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 4096);
    TRY(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, 99, 0);
    TRY(NULL, 4096, PROT_READ, MAP_PRIVATE, -1, 0);
    TRY(NULL, (size_t)1 << 60, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRY(NULL, (size_t)-1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRY((void *)1, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRY((void *)1, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    TRY((void *)0xffff800000000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    TRY((void *)0x7ffffffff000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    TRY(NULL, 4096, PROT_READ, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -1, 0);
    TRY(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED | MAP_NORESERVE | MAP_STACK, -1, 0);
    TRY(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRY(NULL, 4096, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *low = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK(low != MAP_FAILED && (uintptr_t)low < 1UL << 31);
    return done();
}
