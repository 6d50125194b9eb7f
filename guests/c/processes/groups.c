// modes: static dynamic musl
// Process groups and sessions: getters, setpgid, setsid and every refusal.
#include "../common.h"

int main(void) {
    pid_t me = getpid();
    CHECK(getpgrp() == getpgid(0) && getsid(0) == getsid(me));
    SHOW(getpgid(999999999));
    SHOW(getsid(999999999));
    SHOW(getpgid(-1));
    pid_t group = getpgrp(), session = getsid(0), p = fork();
    if (p == 0) {
        CHECK(getpgrp() == group && getsid(0) == session);
        SHOW(setpgid(0, 0));
        CHECK(getpgrp() == getpid());
        SHOW(setsid()); /* a leader may not */
        pid_t c = fork();
        if (c == 0) {
            CHECK(setsid() == getpid());
            CHECK(getsid(0) == getpid() && getpgrp() == getpid());
            SHOW(setpgid(0, 0));
            SHOW(setpgid(0, group));
            SHOW(open("/dev/tty", O_RDWR));
            pid_t g = fork();
            if (g == 0) {
                CHECK(getsid(0) == getppid());
                child_exit(0);
            }
            wait_show("in the session", g);
            child_exit(0);
        }
        wait_show("session leader", c);
        child_exit(0);
    }
    wait_show("group leader", p);
    p = fork();
    if (p == 0)
        for (;;)
            pause();
    SHOW(setpgid(p, p));
    CHECK(getpgid(p) == p);
    SHOW(setpgid(p, group));
    CHECK(getpgid(p) == group);
    SHOW(setpgid(p, -1));
    SHOW(setpgid(999999999, 0));
    SHOW(setpgid(p, 999999));
    kill(p, SIGKILL);
    wait_show("child", p);
    p = fork();
    if (p == 0) {
        execl("/bin/sleep", "sleep", "100", NULL);
        _exit(9);
    }
    char comm[32], path[64];
    do { /* until it has executed: then its group may not be changed */
        snprintf(path, sizeof path, "/proc/%d/comm", p);
        int fd = open(path, O_RDONLY);
        ssize_t n = read(fd, comm, sizeof comm - 1);
        comm[n > 0 ? n : 0] = 0;
        close(fd);
        usleep(500);
    } while (strcmp(comm, "sleep\n"));
    SHOW(setpgid(p, p));
    kill(p, SIGKILL);
    wait_show("child", p);
    return done();
}
