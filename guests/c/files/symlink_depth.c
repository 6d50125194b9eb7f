// modes: static dynamic musl
// Forty links in a row are followed, forty-one are ELOOP; relative and absolute targets, dots in the middle.
#include "../common.h"

int main(void) {
    char from[16], to[16];
    put_file("n0", "bottom");
    for (int i = 1; i <= 41; i++) {
        snprintf(from, sizeof from, "n%d", i - 1);
        snprintf(to, sizeof to, "n%d", i);
        MUST(symlink(from, to) == 0);
    }
    show_file("n40");
    show_file("n41");
    MUST(mkdir("a", 0755) == 0 && mkdir("a/b", 0755) == 0 && symlink("../../n0", "a/b/up") == 0);
    show_file("a/b/up");
    show_file("a//b/.././b/up");
    show_file("./a/b/up");
    MUST(symlink("a/b", "ab") == 0);
    show_file("ab/../b/up"); /* .. is the parent of the target */
    show_file("ab/../n0");
    char cwd[4096], abs[4200];
    MUST(getcwd(cwd, sizeof cwd));
    snprintf(abs, sizeof abs, "%s/a", cwd);
    MUST(symlink(abs, "absolute") == 0);
    show_file("absolute/b/up");
    show_file("absolute/b/none");
    show_file("/../../../../dev/null");
    return done();
}
