// modes: static dynamic musl
// uid and gid calls of a plain uid, or of root in the plain uid's shoes.
#include "../common.h"
#include <grp.h>
#include <sys/prctl.h>

int main(void) {
    if (getuid() == 0) {
        gid_t none[1] = {54321};
        MUST(setgroups(1, none) == 0 && setgid(12345) == 0 && setuid(12345) == 0);
    }
    uid_t u = getuid();
    gid_t g = getgid();
    CHECK(geteuid() == u && getegid() == g);
    SHOW(setuid(u));
    SHOW(setuid(0));
    SHOW(setgid(0));
    SHOW(setresuid(-1, u, -1));
    SHOW(setresuid(0, -1, -1));
    SHOW(setgroups(0, NULL));
    SHOW(seteuid(u + 1));
    CHECK(getuid() == u && geteuid() == u);
    SHOW(chroot("."));
    SHOW(mknod("dev", S_IFCHR | 0600, 0x103));
    SHOW(prctl(PR_CAPBSET_READ, 0, 0, 0, 0) >= 0);
    SHOW(prctl(PR_CAPBSET_READ, 99, 0, 0, 0));
    SHOW(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) >= 0);
    struct { uint32_t version; int pid; } head = {0x20080522, 0};
    uint32_t data[6];
    SHOW(syscall(SYS_capget, &head, data));
    printf("effective %x\n", data[0]);
    head.version = 0;
    SHOW(syscall(SYS_capget, &head, data));
    printf("version %x\n", head.version);
    return done();
}
