// modes: static dynamic musl
// An argument list of half a megabyte arrives whole; one beyond the limits is E2BIG.
#include "../common.h"

int main(int argc, char **argv) {
    enum { N = 4000 };
    static char *args[N + 3];
    if (argc > 2) {
        size_t bytes = 0;
        for (int i = 1; i < argc; i++)
            bytes += strlen(argv[i]);
        printf("%d arguments, %zu bytes, the last one %s\n", argc - 1, bytes, argv[argc - 1]);
        return 0;
    }
    static char text[N][128];
    args[0] = argv[0];
    for (int i = 0; i < N; i++) {
        snprintf(text[i], sizeof text[i], "%0120d", i);
        args[i + 1] = text[i];
    }
    pid_t p = fork();
    if (p == 0) {
        execv("/proc/self/exe", args);
        _exit(99);
    }
    wait_show("child", p);
    char *huge = malloc(200000); /* one string may have 32 pages */
    memset(huge, 'x', 200000);
    huge[199999] = 0;
    SHOW(execv("/proc/self/exe", (char *[]){argv[0], huge, NULL}));
    huge[131070] = 0;
    p = fork();
    if (p == 0) {
        execv("/proc/self/exe", (char *[]){argv[0], huge, "end", NULL});
        _exit(99);
    }
    wait_show("child", p);
    return done();
}
