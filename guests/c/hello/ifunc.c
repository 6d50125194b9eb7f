// modes: static static-pie dynamic nopie
// Resolvers of indirect functions run before main (libc's own string functions depend on it).
#include "../common.h"

static int chosen(void) { return 77; }
static int other(void) { return 1; }
static int (*resolve(void))(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse2") ? chosen : other;
}
int pick(void) __attribute__((ifunc("resolve")));

int main(void) {
    SHOW(pick());
    char a[300], b[300];
    memset(a, 'a', sizeof a);
    memcpy(b, a, sizeof a);
    SHOW(memcmp(a, b, sizeof a));
    b[299] = 0;
    SHOW(strlen(b));
    CHECK(memchr(b, 0, 300) == b + 299);
    return done();
}
