// modes: static dynamic musl
// rename of files and directories over what is there, and its errors.
#include "../common.h"

int main(void) {
    struct stat a, b;
    put_file("a", "AAA");
    put_file("b", "B");
    MUST(stat("a", &a) == 0);
    SHOW(rename("a", "b"));
    MUST(stat("b", &b) == 0);
    CHECK(a.st_ino == b.st_ino);
    show_file("b");
    SHOW(rename("a", "c"));
    MUST(link("b", "same") == 0);
    SHOW(rename("b", "same")); /* two names of one file: nothing happens */
    SHOW(access("b", F_OK));
    SHOW(rename("b", "b"));
    MUST(mkdir("d", 0755) == 0 && mkdir("e", 0755) == 0);
    put_file("e/x", "x");
    SHOW(rename("b", "d"));
    SHOW(rename("d", "b"));
    SHOW(rename("d", "e"));
    SHOW(rename("e", "d"));
    show_file("d/x");
    SHOW(rename("d", "d/sub"));
    SHOW(rename("d", "."));
    SHOW(rename("d", ".."));
    SHOW(rename("d/.", "q"));
    SHOW(rename("b", "none/b"));
    SHOW(rename("b", "same/b"));
    SHOW(rename("", "x"));
    SHOW(rename("b", ""));
    SHOW(rename("b/", "n"));
    SHOW(rename("b", "n/"));
    SHOW(rename("d/", "n/"));
    MUST(symlink("b", "l") == 0);
    SHOW(rename("l", "m"));
    MUST(lstat("m", &a) == 0);
    CHECK(S_ISLNK(a.st_mode));
    SHOW(rename("n", "m"));
    int fd = open("n", O_RDONLY);
    SHOW(renameat(fd, "x", AT_FDCWD, "out"));
    show_file("out");
    SHOW(renameat(99, "x", AT_FDCWD, "out"));
    SHOW(syscall(SYS_rename, BAD, "x"));
    SHOW(syscall(SYS_rename, "b", BAD));
    return done();
}
