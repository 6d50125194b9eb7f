// modes: static dynamic musl
// mkdir, mkdirat, rmdir, and every way they refuse.
#include "../common.h"

int main(void) {
    umask(027);
    struct stat st;
    SHOW(mkdir("d", 0777));
    MUST(stat("d", &st) == 0);
    printf("%o links %lu\n", st.st_mode, (unsigned long)st.st_nlink);
    SHOW(mkdir("d", 0777));
    SHOW(mkdir("d/sub/", 01777));
    MUST(stat("d", &st) == 0);
    printf("links %lu\n", (unsigned long)st.st_nlink);
    SHOW(mkdir("none/x", 0777));
    put_file("f", "");
    SHOW(mkdir("f", 0777));
    SHOW(mkdir("f/x", 0777));
    SHOW(mkdir("", 0777));
    SHOW(mkdir(".", 0777));
    SHOW(mkdir("/", 0777));
    SHOW(mkdir("..", 0777));
    MUST(symlink("nowhere", "l") == 0);
    SHOW(mkdir("l", 0777));
    SHOW(rmdir("d"));
    SHOW(rmdir("f"));
    SHOW(rmdir("l"));
    SHOW(rmdir("none"));
    SHOW(rmdir("d/sub/."));
    SHOW(rmdir("d/sub/.."));
    SHOW(rmdir("/"));
    SHOW(rmdir(""));
    SHOW(rmdir("d/sub"));
    int fd = open("d", O_RDONLY);
    SHOW(mkdirat(fd, "at", 0700));
    SHOW(unlinkat(fd, "at", 0));
    SHOW(unlinkat(fd, "at", AT_REMOVEDIR));
    SHOW(unlinkat(fd, "at", 0x40000000));
    SHOW(mkdirat(99, "x", 0700));
    SHOW(syscall(SYS_mkdir, BAD, 0700));
    SHOW(syscall(SYS_rmdir, BAD));
    SHOW(rmdir("d/"));
    return done();
}
