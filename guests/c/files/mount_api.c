/* The mount tree as the newer calls show it; what would change it is refused. Differences that the host's own
 * mounts make are not printed. */
#include "../common.h"
#include <sys/sysmacros.h>
#define NR_open_tree 428
#define NR_fsconfig 431
#define NR_statmount 457
#define NR_listmount 458
struct req { uint32_t size, spare; uint64_t id, param; };
struct smount {
    uint32_t size, opts; uint64_t mask; uint32_t major, minor; uint64_t magic; uint32_t sb_flags, fs_type;
    uint64_t id, parent; uint32_t old, old_parent; uint64_t attr, prop, peer, master, from; uint32_t root, point;
    uint64_t ns; uint64_t spare[49]; char str[4096];
};
struct ustat_ { int tfree; long tinode; char name[6], pack[6]; };

int main(void) {
    struct statx sx, su;
    MUST(statx(AT_FDCWD, "/proc", 0, STATX_BASIC_STATS | 0x1000, &sx) == 0);
    CHECK(sx.stx_mask & 0x1000);
    CHECK(sx.stx_attributes_mask & 0x2000 && sx.stx_attributes & 0x2000);
    MUST(statx(AT_FDCWD, "/proc", 0, 0x4000, &su) == 0);
    CHECK(su.stx_mask & 0x4000);
    uint64_t old = sx.stx_mnt_id, id = su.stx_mnt_id;
    CHECK(id > 1UL << 31);
    MUST(statx(AT_FDCWD, "/proc/self", AT_SYMLINK_NOFOLLOW, 0x1000, &sx) == 0);
    CHECK(sx.stx_mnt_id == old && !(sx.stx_attributes & 0x2000));
    int fd = open("/proc/version", O_RDONLY);
    MUST(statx(fd, "", AT_EMPTY_PATH, 0x1000, &sx) == 0);
    CHECK(sx.stx_mnt_id == old);

    struct smount m;
    struct req r = {24, 0, id, 2 | 16 | 32};
    memset(&m, 0, sizeof m);
    SHOW(syscall(NR_statmount, &r, &m, sizeof m, 0));
    CHECK(m.mask == (2 | 16 | 32) && m.id == id && m.old == old);
    printf("%s %s\n", m.str + m.fs_type, m.str + m.point);
    SHOW(syscall(NR_statmount, &r, &m, 520UL, 0));
    SHOW(syscall(NR_statmount, &r, &m, sizeof m, 1));
    r.size = 8;
    SHOW(syscall(NR_statmount, &r, &m, sizeof m, 0));
    r = (struct req){24, 0, 12345, 2};
    SHOW(syscall(NR_statmount, &r, &m, sizeof m, 0));

    uint64_t ids[512];
    r = (struct req){24, 0, -1UL, 0};
    long n = syscall(NR_listmount, &r, ids, 512UL, 0);
    CHECK(n > 3);
    bool found = false, rising = true;
    for (long i = 0; i < n; i++) {
        found |= ids[i] == id;
        rising &= i == 0 || ids[i - 1] < ids[i];
    }
    CHECK(found && rising);
    r.param = ids[0];
    uint64_t next[1];
    SHOW(syscall(NR_listmount, &r, next, 1UL, 0));
    CHECK(next[0] == ids[1]);
    SHOW(syscall(NR_listmount, &r, next, 1UL, 2));

    SHOW(syscall(NR_open_tree, AT_FDCWD, "/proc", 4));
    SHOW(syscall(NR_open_tree, AT_FDCWD, "/proc", 0x8000));
    SHOW(syscall(NR_open_tree, AT_FDCWD, "/nowhere", 0));
    int t = syscall(NR_open_tree, AT_FDCWD, "/proc", O_CLOEXEC);
    CHECK(t >= 0 && fcntl(t, F_GETFD) == FD_CLOEXEC && (fcntl(t, F_GETFL) & O_PATH));
    SHOW(syscall(NR_fsconfig, -1, 0, NULL, NULL, 0));
    SHOW(syscall(NR_fsconfig, fd, 6, NULL, NULL, 0));
    struct stat st;
    MUST(stat("/dev/shm", &st) == 0);
    struct ustat_ us;
    SHOW(syscall(SYS_ustat, (unsigned)(minor(st.st_dev) & 0xff) | major(st.st_dev) << 8 | (minor(st.st_dev) & ~0xffu) << 12, &us));
    SHOW(syscall(SYS_ustat, 0xfff00u, &us));
    return done();
}
