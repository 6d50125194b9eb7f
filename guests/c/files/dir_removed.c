// modes: static dynamic musl
// A directory that is removed while it is open or the working directory.
#include "../common.h"
#include <dirent.h>

int main(void) {
    char b[512];
    MUST(mkdir("d", 0755) == 0);
    int fd = open("d", O_RDONLY | O_DIRECTORY);
    MUST(chdir("d") == 0);
    SHOW(rmdir("../d"));
    SHOW(syscall(SYS_getcwd, b, sizeof b));
    SHOW(open("x", O_CREAT | O_WRONLY, 0644));
    SHOW(mkdir("y", 0755));
    SHOW(openat(fd, "z", O_CREAT | O_WRONLY, 0644));
    struct stat st;
    SHOW(fstat(fd, &st));
    SHOW(st.st_nlink);
    SHOW(syscall(SYS_getdents64, fd, b, sizeof b));
    SHOW(stat(".", &st));
    SHOW(chdir(".."));
    SHOW(access("d", F_OK));
    return done();
}
