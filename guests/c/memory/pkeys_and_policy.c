// modes: static dynamic
// pkey, mempolicy and membarrier calls: they work or refuse in the ways a program must be ready for.
#include "../common.h"

static bool one_of(long r, int a, int b, int c) { return r >= 0 || errno == a || errno == b || errno == c; }

int main(void) {
    CHECK(one_of(syscall(SYS_pkey_alloc, 0, 0), ENOSPC, EINVAL, ENOSYS));
    CHECK(one_of(syscall(SYS_get_mempolicy, NULL, NULL, 0, NULL, 0), ENOSYS, EPERM, EINVAL));
    CHECK(one_of(syscall(SYS_set_mempolicy, 0, NULL, 0), ENOSYS, EPERM, EINVAL));
    long q = syscall(SYS_membarrier, 0, 0, 0);
    CHECK(one_of(q, ENOSYS, ENOSYS, ENOSYS));
    if (q > 0 && q & 1 << 3) { /* PRIVATE_EXPEDITED and its registration */
        SHOW(syscall(SYS_membarrier, 1 << 4, 0, 0));
        SHOW(syscall(SYS_membarrier, 1 << 3, 0, 0));
    }
    if (q >= 0)
        CHECK(syscall(SYS_membarrier, 1 << 30, 0, 0) == -1 && errno == EINVAL);
    unsigned cpu = 9999, node = 9999;
    CHECK(syscall(SYS_getcpu, &cpu, &node, NULL) == 0 && cpu < 4096 && node < 4096);
    return done();
}
