// modes: static dynamic musl
// chdir, fchdir, getcwd: after a rename of the directory, in a child, with small buffers.
#include "../common.h"

static void where(const char *top) {
    char b[4096];
    MUST(getcwd(b, sizeof b));
    MUST(strncmp(b, top, strlen(top)) == 0);
    printf("in %s\n", b + strlen(top));
}

int main(void) {
    char top[4096], small[3];
    MUST(getcwd(top, sizeof top));
    CHECK(top[0] == '/');
    long n = syscall(SYS_getcwd, top, sizeof top);
    CHECK(n == (long)strlen(top) + 1);
    MUST(mkdir("a", 0755) == 0 && mkdir("a/b", 0755) == 0 && symlink("a/b", "l") == 0);
    SHOW(chdir("a/b"));
    where(top);
    SHOW(rename("../../a", "../../z"));
    where(top);
    SHOW(chdir(".."));
    where(top);
    SHOW(chdir("../l"));
    SHOW(chdir("b"));
    pid_t p = fork();
    if (p == 0) {
        SHOW(chdir("/"));
        child_exit(0);
    }
    wait_show("child", p);
    where(top);
    int fd = open(top, O_RDONLY | O_DIRECTORY);
    SHOW(fchdir(fd));
    where(top);
    put_file("f", "");
    SHOW(chdir("f"));
    SHOW(chdir("none"));
    SHOW(chdir(""));
    SHOW(syscall(SYS_chdir, BAD));
    int file = open("f", O_RDONLY);
    SHOW(fchdir(file));
    SHOW(fchdir(99));
    int path = open("z", O_PATH);
    SHOW(fchdir(path));
    where(top);
    SHOW(syscall(SYS_getcwd, small, sizeof small));
    SHOW(syscall(SYS_getcwd, small, 0L));
    SHOW(syscall(SYS_getcwd, BAD, 4096L));
    SHOW(chdir("/"));
    SHOW(syscall(SYS_getcwd, small, sizeof small));
    return done();
}
