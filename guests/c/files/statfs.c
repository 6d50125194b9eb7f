// modes: static dynamic musl
// statfs, fstatfs and statvfs: sane numbers, the types of proc and tmpfs, errors.
#include "../common.h"
#include <sys/statfs.h>
#include <sys/statvfs.h>

int main(void) {
    struct statfs s;
    struct statvfs v;
    SHOW(statfs(".", &s));
    CHECK(s.f_bsize >= 512 && s.f_bfree <= s.f_blocks && s.f_bavail <= s.f_bfree && s.f_namelen == 255);
    int fd = open(".", O_RDONLY);
    struct statfs t;
    SHOW(fstatfs(fd, &t));
    CHECK(s.f_type == t.f_type && s.f_blocks == t.f_blocks);
    SHOW(statfs("/proc", &s));
    printf("%lx\n", (unsigned long)s.f_type);
    SHOW(statfs("/dev/shm", &s));
    printf("%lx\n", (unsigned long)s.f_type);
    SHOW(statfs("none", &s));
    SHOW(syscall(SYS_statfs, ".", BAD));
    SHOW(syscall(SYS_statfs, BAD, &s));
    SHOW(fstatfs(99, &s));
    SHOW(statvfs(".", &v));
    CHECK(v.f_namemax == 255 && v.f_frsize > 0);
    SHOW(pathconf(".", _PC_NAME_MAX));
    SHOW(pathconf(".", _PC_PIPE_BUF));
    int p[2];
    MUST(pipe(p) == 0);
    SHOW(fstatfs(p[0], &s));
    printf("%lx\n", (unsigned long)s.f_type);
    return done();
}
