// modes: static dynamic musl
// O_TMPFILE: no name until it is linked; and libc's temporary files.
#include "../common.h"
#ifndef O_TMPFILE
#define O_TMPFILE 020200000
#endif

int main(void) {
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);
    if (fd < 0 && errno == EOPNOTSUPP) {
        puts("no O_TMPFILE on this file system");
        return 0;
    }
    SHOW(write(fd, "nameless", 8));
    struct stat st;
    MUST(fstat(fd, &st) == 0);
    printf("links %lu mode %o\n", (unsigned long)st.st_nlink, st.st_mode);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    show_file("named");
    int ex = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
    snprintf(path, sizeof path, "/proc/self/fd/%d", ex);
    SHOW(linkat(AT_FDCWD, path, AT_FDCWD, "other", AT_SYMLINK_FOLLOW));
    SHOW(open(".", O_TMPFILE | O_RDONLY, 0600));
    SHOW(open("named", O_TMPFILE | O_RDWR, 0600));
    SHOW(open("none", O_TMPFILE | O_RDWR, 0600));
    char name[] = "tempXXXXXX";
    int t = mkstemp(name);
    CHECK(t >= 0 && strcmp(name, "tempXXXXXX") != 0 && access(name, F_OK) == 0);
    char dir[] = "dirXXXXXX";
    CHECK(mkdtemp(dir) && rmdir(dir) == 0);
    FILE *f = tmpfile();
    CHECK(f && fputs("x", f) >= 0 && fflush(f) == 0);
    return done();
}
