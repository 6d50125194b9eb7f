// modes: static dynamic musl
// link, linkat, symlink, readlink: counts, targets, loops, errors.
#include "../common.h"

int main(void) {
    char b[64];
    struct stat st;
    put_file("f", "text");
    SHOW(link("f", "g"));
    SHOW(link("f", "g"));
    SHOW(link("none", "h"));
    MUST(mkdir("d", 0755) == 0);
    SHOW(link("f", "none/h"));
    SHOW(link("f", "d"));
    SHOW(link("d", "d2"));
    SHOW(symlink("f", "s"));
    SHOW(symlink("f", "s"));
    SHOW(symlink("", "t"));
    SHOW(symlink("x", ""));
    SHOW(symlink("x", "none/t"));
    SHOW(link("s", "hs"));
    MUST(lstat("hs", &st) == 0);
    CHECK(S_ISLNK(st.st_mode));
    SHOW(linkat(AT_FDCWD, "s", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW));
    MUST(lstat("followed", &st) == 0);
    printf("%o links %lu\n", st.st_mode & S_IFMT, (unsigned long)st.st_nlink);
    memset(b, 0, sizeof b);
    SHOW(readlink("s", b, sizeof b));
    puts(b);
    SHOW(symlink("a/long/target/that/leads/nowhere", "far"));
    memset(b, 0, sizeof b);
    SHOW(readlink("far", b, 6));
    puts(b);
    SHOW(readlink("far", b, 0));
    SHOW(readlink("f", b, sizeof b));
    SHOW(readlink("none", b, sizeof b));
    SHOW(readlink("d", b, sizeof b));
    SHOW(readlink("", b, sizeof b));
    SHOW(syscall(SYS_readlink, "s", BAD, 10L));
    SHOW(readlinkat(99, "s", b, sizeof b));
    SHOW(symlink("loop2", "loop1"));
    SHOW(symlink("loop1", "loop2"));
    SHOW(open("loop1", O_RDONLY));
    SHOW(stat("loop1/x", &st));
    SHOW(lstat("loop1", &st));
    SHOW(open("far", O_RDONLY));
    MUST(symlink("d", "ld") == 0);
    put_file("ld/in", "inner");
    show_file("d/in");
    SHOW(open("ld", O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    // A link to a directory is one, where it is followed: on a volume, in the tree, in /dev.
    const char *dirs[] = {"ld", "ld/", "/bin", "/dev/fd"};
    for (int i = 0; i < 4; i++) {
        int dir = open(dirs[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK(dir >= 0);
        MUST(fstat(dir, &st) == 0);
        CHECK(S_ISDIR(st.st_mode));
        close(dir);
    }
    MUST(symlink("f", "lf") == 0);
    SHOW(open("lf", O_RDONLY | O_DIRECTORY));
    SHOW(open("far", O_RDONLY | O_DIRECTORY));
    SHOW(lstat("ld/", &st));
    CHECK(S_ISDIR(st.st_mode));
    SHOW(unlink("ld"));
    show_file("d/in");
    int fd = open("f", O_RDONLY);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(linkat(AT_FDCWD, path, AT_FDCWD, "viaproc", AT_SYMLINK_FOLLOW));
    show_file("viaproc");
    return done();
}
