/* Compresses standard input at several levels and gives it back. */
#include "zstd.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    size_t most = 8 << 20, bound = ZSTD_compressBound(most);
    char *in = malloc(most), *out = malloc(bound), *back = malloc(most);
    size_t n = fread(in, 1, most, stdin);
    for (int level = 1; level <= 19; level += 6) {
        size_t packed = ZSTD_compress(out, bound, in, n, level);
        if (ZSTD_isError(packed) || ZSTD_decompress(back, most, out, packed) != n || memcmp(in, back, n))
            return 1;
        printf("level %d: %zu of %zu\n", level, packed, n);
    }
    return 0;
}
