// modes: static dynamic musl
// chown to oneself, -1 for unchanged, lchown of a link, errors.
#include "../common.h"

int main(void) {
    put_file("f", "");
    MUST(symlink("f", "l") == 0);
    int fd = open("f", O_RDWR);
    SHOW(chown("f", getuid(), getgid()));
    SHOW(chown("f", -1, -1));
    SHOW(fchown(fd, getuid(), -1));
    SHOW(lchown("l", -1, getgid()));
    SHOW(fchownat(AT_FDCWD, "l", -1, -1, AT_SYMLINK_NOFOLLOW));
    SHOW(fchownat(fd, "", -1, -1, AT_EMPTY_PATH));
    SHOW(fchownat(AT_FDCWD, "f", -1, -1, 0x40000000));
    SHOW(chown("none", -1, -1));
    SHOW(chown("f/x", -1, -1));
    SHOW(fchown(99, -1, -1));
    SHOW(syscall(SYS_chown, BAD, -1, -1));
    MUST(chmod("f", 06755) == 0);
    SHOW(chown("f", getuid(), getgid())); /* takes the set-id bits off */
    struct stat st;
    MUST(stat("f", &st) == 0);
    printf("%o\n", st.st_mode);
    CHECK(st.st_uid == getuid() && st.st_gid == getgid());
    return done();
}
