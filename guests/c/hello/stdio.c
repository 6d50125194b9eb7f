// modes: static dynamic musl
// stdin: 12 abc\nsecond line\n
// stdio over pipes: scanf, getline, EOF, and stdout flushed at exit.
#include "../common.h"

int main(void) {
    int n;
    char word[16], *line = NULL;
    size_t cap = 0;
    SHOW(scanf("%d %15s\n", &n, word));
    printf("%d %s\n", n, word);
    SHOW(getline(&line, &cap, stdin));
    printf("[%s]", line);
    SHOW(getline(&line, &cap, stdin));
    CHECK(feof(stdin));
    free(line);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    for (int i = 0; i < 3000; i++)
        printf("%d ", i);
    printf("\nend");
    return 0;
}
