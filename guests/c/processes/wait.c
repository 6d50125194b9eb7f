// modes: static dynamic musl
// wait4, waitpid, waitid: which child, options, what siginfo says, errors.
#include "../common.h"

static pid_t kid(int code) {
    pid_t p = fork();
    if (p == 0)
        _exit(code);
    return p;
}

int main(void) {
    int st;
    siginfo_t i;
    SHOW(waitpid(-1, &st, WNOHANG));
    pid_t a = kid(1), b = kid(2);
    MUST(waitpid(b, &st, 0) == b);
    show_status("b", st);
    SHOW(waitpid(b, &st, 0));
    MUST(waitpid(-1, &st, 0) == a);
    show_status("a", st);
    int p[2];
    MUST(pipe(p) == 0);
    a = fork();
    if (a == 0) {
        char c;
        (void)!read(p[0], &c, 1);
        _exit(5);
    }
    SHOW(waitpid(a, &st, WNOHANG));
    memset(&i, 1, sizeof i);
    SHOW(waitid(P_PID, a, &i, WEXITED | WNOHANG));
    SHOW(i.si_signo);
    SHOW(i.si_pid);
    MUST(write(p[1], "x", 1) == 1);
    SHOW(waitid(P_PID, a, &i, WEXITED | WNOWAIT));
    CHECK(i.si_pid == a && i.si_uid == getuid() && i.si_signo == SIGCHLD);
    printf("code %d status %d\n", i.si_code, i.si_status);
    SHOW(waitid(P_ALL, 0, &i, WEXITED));
    printf("code %d status %d\n", i.si_code, i.si_status);
    SHOW(waitid(P_PID, a, &i, WEXITED));
    a = fork();
    if (a == 0)
        for (;;)
            pause();
    kill(a, SIGKILL);
    SHOW(waitid(P_PID, a, &i, WEXITED));
    printf("code %d status %d\n", i.si_code, i.si_status);
    SHOW(waitid(P_ALL, 0, &i, 0));
    SHOW(waitid(99, 0, &i, WEXITED));
    SHOW(waitpid(-1, &st, 0x100));
    SHOW(waitpid(999999999, &st, 0));
    SHOW(waitpid(INT_MIN, &st, 0));
    SHOW(waitpid(-999999, &st, 0));
    a = fork();
    if (a == 0) {
        setpgid(0, 0);
        _exit(9);
    }
    setpgid(a, a);
    MUST(waitpid(-a, &st, 0) == a);
    show_status("by group", st);
    a = kid(3);
    MUST(waitpid(0, &st, 0) == a);
    show_status("own group", st);
    a = kid(4);
    SHOW(syscall(SYS_wait4, a, BAD, 0, NULL));
    SHOW(waitpid(a, &st, 0));
    return done();
}
