// modes: static dynamic
// access, faccessat, faccessat2 with their flags.
#include "../common.h"

int main(void) {
    put_file("f", "");
    MUST(chmod("f", 0600) == 0 && mkdir("d", 0700) == 0 && symlink("none", "l") == 0);
    SHOW(access("f", F_OK));
    SHOW(access("f", R_OK | W_OK));
    SHOW(access("f", X_OK));
    SHOW(access("d", X_OK));
    SHOW(access("l", F_OK));
    SHOW(access("f", 8));
    SHOW(access("none", F_OK));
    SHOW(access("f/x", F_OK));
    SHOW(access("", F_OK));
    SHOW(syscall(SYS_access, BAD, F_OK));
    int fd = open("d", O_RDONLY);
    SHOW(faccessat(fd, ".", W_OK, 0));
    SHOW(faccessat(99, "f", F_OK, 0));
    SHOW(syscall(SYS_faccessat2, AT_FDCWD, "l", F_OK, AT_SYMLINK_NOFOLLOW));
    SHOW(syscall(SYS_faccessat2, AT_FDCWD, "f", W_OK, AT_EACCESS));
    SHOW(syscall(SYS_faccessat2, fd, "", X_OK, AT_EMPTY_PATH));
    SHOW(syscall(SYS_faccessat2, AT_FDCWD, "f", W_OK, 0x40000000));
    return done();
}
