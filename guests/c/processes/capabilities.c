// modes: static dynamic musl
// The capabilities of a plain user: capget, capset within and beyond, ambient set, securebits, what execve leaves.
#include "../common.h"
#include <sys/prctl.h>
#include <sys/syscall.h>
#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT 47
#endif
struct head { uint32_t version; int pid; };
struct data { uint32_t effective, permitted, inheritable; };
static long get(struct head *h, struct data *d) { return syscall(SYS_capget, h, d); }
static long set(struct head *h, struct data *d) { return syscall(SYS_capset, h, d); }

int main(void) {
    if (geteuid() == 0) {
        MUST(setgid(65534) == 0 && setuid(65534) == 0);
    }
    struct head h = {0x20080522, 0};
    struct data d[2];
    SHOW(get(&h, d));
    printf("%x %x %x, %x %x %x\n", d[0].effective, d[0].permitted, d[0].inheritable, d[1].effective, d[1].permitted, d[1].inheritable);
    SHOW(set(&h, d));
    d[0].effective = 1;
    SHOW(set(&h, d));
    d[0].permitted = 1;
    SHOW(set(&h, d));
    d[0] = (struct data){0, 0, 1};
    SHOW(set(&h, d));
    h.pid = 1;
    d[0] = (struct data){0, 0, 0};
    SHOW(set(&h, d));
    h.pid = -1;
    SHOW(get(&h, d));
    h = (struct head){0x19980330, 0};
    SHOW(get(&h, d));
    h = (struct head){1, 0};
    SHOW(get(&h, NULL));
    printf("%x\n", h.version);
    SHOW(get(BAD, d));
    SHOW(prctl(PR_CAP_AMBIENT, 1, 0, 0, 0));
    SHOW(prctl(PR_CAP_AMBIENT, 2, 0, 0, 0));
    SHOW(prctl(PR_CAP_AMBIENT, 3, 0, 0, 0));
    SHOW(prctl(PR_CAP_AMBIENT, 4, 0, 0, 0));
    SHOW(prctl(PR_CAP_AMBIENT, 9, 0, 0, 0));
    SHOW(prctl(PR_CAP_AMBIENT, 2, 99, 0, 0));
    SHOW(prctl(PR_CAPBSET_DROP, 0, 0, 0, 0));
    SHOW(prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_SECUREBITS, 1, 0, 0, 0));
    SHOW(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_KEEPCAPS, 2, 0, 0, 0));
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    return done();
}
