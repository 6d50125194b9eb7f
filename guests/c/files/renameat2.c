// modes: static dynamic musl
// renameat2 with NOREPLACE and EXCHANGE.
#include "../common.h"

static long r2(const char *a, const char *b, unsigned flags) {
    return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, flags);
}

int main(void) {
    put_file("a", "A");
    put_file("b", "B");
    SHOW(r2("a", "b", 1));
    SHOW(r2("a", "c", 1));
    show_file("c");
    SHOW(r2("c", "b", 2));
    show_file("c");
    show_file("b");
    MUST(mkdir("d", 0755) == 0);
    put_file("d/in", "in");
    SHOW(r2("c", "d", 2));
    show_file("c/in");
    show_file("d");
    SHOW(r2("c", "none", 2));
    SHOW(r2("none", "c", 2));
    SHOW(r2("c", "d", 3));
    SHOW(r2("c", "c/in", 2));
    SHOW(r2("c", "d", 0x80));
    SHOW(r2("c", "c", 1));
    SHOW(r2("c", "new", 0));
    SHOW(access("new/in", F_OK));
    return done();
}
