// modes: static static-pie dynamic nopie musl musl-dynamic
// args: one two --three=3 -4
// argc, argv, its end, and the program's own name in three places.
#include "../common.h"

int main(int argc, char **argv) {
    SHOW(argc);
    for (int i = 1; i < argc; i++)
        printf("argv[%d]=%s\n", i, argv[i]);
    CHECK(argv[argc] == NULL);
    const char *base = strrchr(argv[0], '/');
    CHECK(base && strncmp(base + 1, "args.", 5) == 0);
    CHECK(strcmp(program_invocation_name, argv[0]) == 0);
    /* The strings lie one after the other, as the kernel put them. */
    for (int i = 1; i < argc; i++)
        MUST(argv[i] == argv[i - 1] + strlen(argv[i - 1]) + 1);
    puts("strings are contiguous");
    return done();
}
