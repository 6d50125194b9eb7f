// modes: static dynamic
// openat2: strict flags, and resolution kept beneath a directory, without links, in a root.
#include "../common.h"
#include <linux/openat2.h>

static int o2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct open_how how = {flags, mode, resolve};
    int fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? -1 : 0;
}

int main(void) {
    MUST(mkdir("d", 0755) == 0 && mkdir("d/sub", 0755) == 0);
    put_file("top", "top");
    put_file("d/file", "file");
    MUST(symlink("../top", "d/up") == 0 && symlink("file", "d/in") == 0 && symlink("/file", "d/abs") == 0);
    int d = open("d", O_PATH);
    SHOW(o2(AT_FDCWD, "top", O_RDONLY, 0, 0));
    SHOW(o2(AT_FDCWD, "new", O_WRONLY | O_CREAT, 0600, 0));
    SHOW(o2(AT_FDCWD, "top", O_RDONLY, 0600, 0));
    SHOW(o2(AT_FDCWD, "top", 1ULL << 40, 0, 0));
    SHOW(o2(AT_FDCWD, "x", O_CREAT | O_WRONLY, 0200000, 0));
    SHOW(o2(AT_FDCWD, "top", O_RDONLY, 0, 1 << 20));
    SHOW(o2(d, "file", O_RDONLY, 0, RESOLVE_BENEATH));
    SHOW(o2(d, "sub/../file", O_RDONLY, 0, RESOLVE_BENEATH));
    SHOW(o2(d, "../top", O_RDONLY, 0, RESOLVE_BENEATH));
    SHOW(o2(d, "up", O_RDONLY, 0, RESOLVE_BENEATH));
    SHOW(o2(d, "up", O_RDONLY, 0, 0));
    SHOW(o2(d, "in", O_RDONLY, 0, RESOLVE_BENEATH));
    SHOW(o2(d, "/etc/passwd", O_RDONLY, 0, RESOLVE_BENEATH));
    SHOW(o2(d, "in", O_RDONLY, 0, RESOLVE_NO_SYMLINKS));
    SHOW(o2(d, "file", O_RDONLY, 0, RESOLVE_NO_SYMLINKS));
    SHOW(o2(d, "../top", O_RDONLY, 0, RESOLVE_IN_ROOT));
    SHOW(o2(d, "/file", O_RDONLY, 0, RESOLVE_IN_ROOT));
    SHOW(o2(d, "abs", O_RDONLY, 0, RESOLVE_IN_ROOT));
    SHOW(o2(d, "/proc/self/fd/0", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS));
    SHOW(o2(d, "file", O_RDONLY, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT));
    struct { struct open_how how; uint64_t more; } big = {{O_RDONLY, 0, 0}, 0};
    SHOWN(syscall(SYS_openat2, AT_FDCWD, "top", &big, sizeof big));
    big.more = 1;
    SHOW(syscall(SYS_openat2, AT_FDCWD, "top", &big, sizeof big));
    SHOW(syscall(SYS_openat2, AT_FDCWD, "top", &big, 8L));
    SHOW(syscall(SYS_openat2, AT_FDCWD, "top", BAD, sizeof big.how));
    return done();
}
