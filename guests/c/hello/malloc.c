// modes: static dynamic musl
// The allocator from one byte to 64 MiB: contents kept, alignment, realloc, and a failing request.
#include "../common.h"
#include <malloc.h>

int main(void) {
    enum { N = 2000 };
    static unsigned char *p[N];
    unsigned seed = 1;
    for (int round = 0; round < 20; round++)
        for (int i = 0; i < N; i++) {
            seed = seed * 1103515245 + 12345;
            size_t size = 8 + (seed >> 16) % 3000;
            if (p[i])
                MUST(p[i][0] == (unsigned char)i && p[i][7] == (unsigned char)(i >> 8));
            p[i] = realloc(p[i], size);
            MUST(p[i] && (uintptr_t)p[i] % 16 == 0);
            p[i][0] = (unsigned char)i;
            p[i][7] = (unsigned char)(i >> 8);
        }
    for (int i = 0; i < N; i++)
        free(p[i]);
    puts("small blocks kept");
    size_t big = 64 << 20;
    char *b = malloc(big);
    b[0] = 1;
    b[big - 1] = 2;
    b = realloc(b, 2 * big);
    CHECK(b && b[0] == 1 && b[big - 1] == 2);
    free(b);
    char *z = calloc(1000, 1000);
    size_t nonzero = 0;
    for (int i = 0; i < 1000000; i++)
        nonzero += z[i] != 0;
    CHECK(nonzero == 0);
    free(z);
    void *aligned = NULL;
    SHOWE(posix_memalign(&aligned, 65536, 100));
    CHECK((uintptr_t)aligned % 65536 == 0);
    free(aligned);
    volatile size_t absurd = (size_t)1 << 62;
    errno = 0;
    CHECK(malloc(absurd) == NULL && errno == ENOMEM);
    return done();
}
