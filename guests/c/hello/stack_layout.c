// modes: static dynamic musl
// The stack as the kernel lays it: pointers in order, sixteen-byte alignment at entry, name at the very top.
#include "../common.h"
#include <sys/auxv.h>
#include <elf.h>
extern char **environ;

int main(int argc, char **argv) {
    char **env = argv + argc + 1;
    CHECK(env == environ);
    int n = 0;
    while (env[n])
        n++;
    unsigned long *aux = (unsigned long *)(env + n + 1);
    bool seen[64] = {false};
    int entries = 0;
    for (; aux[0] != AT_NULL; aux += 2, entries++) {
        MUST(entries < 64);
        if (aux[0] < 64)
            seen[aux[0]] = true;
    }
    CHECK(seen[AT_PHDR] && seen[AT_ENTRY] && seen[AT_RANDOM] && seen[AT_BASE] && seen[AT_EXECFN]);
    CHECK(((uintptr_t)argv - 8) % 16 == 0);
    const char *name = (char *)getauxval(AT_EXECFN);
    CHECK(name > argv[0] && (n == 0 || name > env[n - 1]));
    int local;
    CHECK((uintptr_t)&local < (uintptr_t)argv);
    CHECK((uintptr_t)argv - (uintptr_t)&local < 65536);
    return done();
}
