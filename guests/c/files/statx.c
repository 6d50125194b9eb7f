// modes: static dynamic
// statx: the fields asked for come back, agree with stat, and bad flags and masks are refused.
#include "../common.h"
#include <sys/sysmacros.h>

int main(void) {
    umask(022);
    put_file("f", "abc");
    struct statx x;
    struct stat s;
    memset(&x, 0x55, sizeof x);
    SHOW(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x));
    MUST(stat("f", &s) == 0);
    CHECK((x.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
    printf("mode %o size %llu links %u\n", x.stx_mode, (unsigned long long)x.stx_size, x.stx_nlink);
    CHECK(x.stx_ino == s.st_ino && x.stx_uid == s.st_uid && x.stx_gid == s.st_gid);
    CHECK(makedev(x.stx_dev_major, x.stx_dev_minor) == s.st_dev);
    CHECK(x.stx_blocks == (unsigned long long)s.st_blocks && x.stx_blksize == (unsigned)s.st_blksize);
    CHECK(x.stx_mtime.tv_sec == s.st_mtim.tv_sec && x.stx_mtime.tv_nsec == (unsigned)s.st_mtim.tv_nsec);
    int fd = open("f", O_RDONLY);
    SHOW(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &x));
    CHECK(x.stx_mask & STATX_SIZE && x.stx_size == 3);
    MUST(symlink("f", "l") == 0);
    SHOW(statx(AT_FDCWD, "l", AT_SYMLINK_NOFOLLOW, STATX_MODE, &x));
    CHECK(S_ISLNK(x.stx_mode));
    SHOW(statx(AT_FDCWD, "f", AT_STATX_SYNC_TYPE, 0, &x));
    SHOW(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC, STATX_SIZE, &x));
    SHOW(statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC, STATX_SIZE, &x));
    SHOW(statx(AT_FDCWD, "f", 0x1000000, STATX_SIZE, &x));
    SHOW(statx(AT_FDCWD, "f", 0, 0x80000000, &x));
    SHOW(statx(AT_FDCWD, "none", 0, STATX_SIZE, &x));
    SHOW(statx(99, "f", 0, STATX_SIZE, &x));
    SHOW(statx(fd, "", 0, STATX_SIZE, &x));
    SHOW(syscall(SYS_statx, AT_FDCWD, "f", 0, STATX_SIZE, BAD));
    return done();
}
