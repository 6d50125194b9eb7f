// modes: static dynamic musl
// stat, lstat, fstat, newfstatat and statx tell the same about a file, a directory, a link, a pipe, a device.
#include "../common.h"
#include <sys/sysmacros.h>

static void show_stat(const char *name, const struct stat *s) {
    printf("%s: mode %o links %lu size %ld block size %ld rdev %u:%u mine %d\n", name, s->st_mode,
           (unsigned long)s->st_nlink, S_ISDIR(s->st_mode) ? 0L : (long)s->st_size, (long)s->st_blksize,
           major(s->st_rdev), minor(s->st_rdev), s->st_uid == geteuid());
}

int main(void) {
    umask(022);
    struct stat a, b, c;
    put_file("f", "twelve bytes");
    MUST(mkdir("d", 0750) == 0 && symlink("f", "l") == 0 && link("f", "hard") == 0);
    SHOW(stat("f", &a));
    show_stat("f", &a);
    SHOW(stat("hard", &b));
    CHECK(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
    SHOW(stat("l", &b));
    CHECK(a.st_ino == b.st_ino);
    SHOW(lstat("l", &b));
    show_stat("l", &b);
    CHECK(a.st_ino != b.st_ino);
    SHOW(stat("d", &b));
    show_stat("d", &b);
    int fd = open("f", O_RDONLY);
    SHOW(fstat(fd, &c));
    CHECK(c.st_ino == a.st_ino && c.st_size == 12);
    CHECK(memcmp(&c.st_mtim, &a.st_mtim, sizeof a.st_mtim) == 0);
    SHOW(fstatat(fd, "", &c, AT_EMPTY_PATH));
    CHECK(c.st_ino == a.st_ino);
    SHOW(fstatat(fd, "", &c, 0));
    SHOW(fstatat(fd, "x", &c, 0));
    SHOW(fstatat(AT_FDCWD, "l", &c, AT_SYMLINK_NOFOLLOW));
    CHECK(S_ISLNK(c.st_mode));
    SHOW(fstatat(AT_FDCWD, "f", &c, 0x40000000));
    SHOW(fstatat(99, "f", &c, 0));
    SHOW(stat("/dev/null", &b));
    printf("/dev/null: type %o rdev %u:%u\n", b.st_mode & S_IFMT, major(b.st_rdev), minor(b.st_rdev));
    int p[2];
    MUST(pipe(p) == 0);
    SHOW(fstat(p[0], &b));
    show_stat("pipe", &b);
    SHOW(stat("none", &b));
    SHOW(stat("", &b));
    SHOW(stat("f/x", &b));
    SHOW(fstat(99, &b));
    SHOW(syscall(SYS_stat, "f", BAD));
    SHOW(syscall(SYS_stat, BAD, &b));
    SHOW(syscall(SYS_fstat, fd, BAD));
    CHECK(a.st_atim.tv_nsec < 1000000000 && a.st_mtim.tv_sec > 1000000000);
    return done();
}
