// modes: static dynamic musl
// needs: root
// uid and gid calls as root: real, effective, saved, groups; dropping for good; what stays impossible after.
#include "../common.h"
#include <grp.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

static void ids(void) {
    uid_t r, e, s;
    gid_t gr, ge, gs;
    MUST(getresuid(&r, &e, &s) == 0 && getresgid(&gr, &ge, &gs) == 0);
    printf("uid %u %u %u gid %u %u %u\n", r, e, s, gr, ge, gs);
}

int main(void) {
    ids();
    gid_t groups[] = {10, 20, 30}, back[8];
    SHOW(setgroups(3, groups));
    SHOW(getgroups(0, NULL));
    SHOW(getgroups(8, back));
    printf("%u %u %u\n", back[0], back[1], back[2]);
    SHOW(getgroups(2, back));
    pid_t p = fork();
    if (p == 0) {
        SHOW(seteuid(1000));
        ids();
        SHOW(setuid(2000));
        SHOW(seteuid(0));
        SHOW(setresgid(5, 6, 7));
        SHOW(setresuid(1, 2, 0));
        ids();
        SHOW(setreuid(-1, 0));
        SHOW(setregid(8, -1));
        ids();
        SHOW(setfsuid(77));
        SHOW(setfsuid(-1));
        SHOW(setgid(3000));
        SHOW(setuid(3000));
        ids();
        SHOW(setuid(0));
        SHOW(seteuid(0));
        SHOW(setgid(0));
        SHOW(setgroups(0, NULL));
        SHOW(setresuid(3000, 3000, 3000));
        SHOW(setresuid(-1, -1, -1));
        SHOW(kill(1, 0) == -1 ? errno : 0);
        child_exit(0);
    }
    wait_show("child", p);
    ids();
    SHOW(prctl(PR_SET_KEEPCAPS, 1));
    SHOW(prctl(PR_GET_KEEPCAPS));
    return done();
}
