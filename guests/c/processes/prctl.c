// modes: static dynamic musl
// prctl and personality: names, dumpable, no_new_privs, timer slack, THP, unknown codes.
#include "../common.h"
#include <sys/personality.h>
#include <sys/prctl.h>

int main(void) {
    char name[20] = {0};
    SHOW(prctl(PR_SET_NAME, "a-very-long-name-of-a-thread"));
    SHOW(prctl(PR_GET_NAME, name));
    puts(name);
    SHOW(prctl(PR_SET_NAME, BAD));
    SHOW(prctl(PR_GET_DUMPABLE));
    SHOW(prctl(PR_SET_DUMPABLE, 0));
    SHOW(prctl(PR_GET_DUMPABLE));
    SHOW(prctl(PR_SET_DUMPABLE, 1));
    SHOW(prctl(PR_SET_DUMPABLE, 9));
    SHOW(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(prctl(PR_GET_TIMERSLACK) > 0);
    SHOW(prctl(PR_SET_TIMERSLACK, 12345));
    SHOW(prctl(PR_GET_TIMERSLACK));
    SHOW(prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    SHOW(prctl(99999, 0, 0, 0, 0));
    SHOW(personality(0xffffffff));
    SHOW(personality(ADDR_NO_RANDOMIZE));
    SHOW(personality(0xffffffff));
    pid_t p = fork();
    if (p == 0) {
        SHOW(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
        SHOW(personality(0xffffffff));
        prctl(PR_GET_NAME, name);
        puts(name);
        child_exit(0);
    }
    wait_show("child", p);
    return done();
}
