// modes: static dynamic musl
// The environment as it came, and its life in libc.
#include "../common.h"
extern char **environ;

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int main(int argc, char **argv, char **envp) {
    (void)argc;
    CHECK(envp == environ);
    CHECK(envp == argv + argc + 1);
    int n = 0;
    while (envp[n])
        n++;
    qsort(envp, n, sizeof *envp, by_name);
    for (int i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(envp[i], "="), envp[i]);
        if (strcmp(name, "HOME") && strcmp(name, "XDG_RUNTIME_DIR") && strcmp(name, "PWD"))
            printf("%s\n", envp[i]);
    }
    SHOW(setenv("NEW", "value", 0));
    SHOW(setenv("NEW", "other", 0));
    printf("%s\n", getenv("NEW"));
    SHOW(unsetenv("NEW"));
    CHECK(getenv("NEW") == NULL);
    SHOW(setenv("A=B", "x", 1));
    return done();
}
