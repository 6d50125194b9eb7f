// modes: static dynamic musl
// kill, tgkill, killpg: targets, signal 0, permissions, errors.
#include "../common.h"

static volatile sig_atomic_t hits;
static void handler(int s) { (void)s, hits++; }

int main(void) {
    signal(SIGUSR1, handler);
    SHOW(kill(getpid(), 0));
    SHOW(kill(getpid(), SIGUSR1));
    SHOW(hits);
    SHOW(kill(getpid(), -1));
    SHOW(kill(getpid(), 65));
    SHOW(kill(999999999, 0));
    SHOW(raise(SIGUSR1));
    SHOW(hits);
    SHOW(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1));
    SHOW(syscall(SYS_tgkill, getpid(), 999999999, SIGUSR1));
    SHOW(syscall(SYS_tgkill, getpid() + 100000, getpid(), SIGUSR1));
    SHOW(syscall(SYS_tgkill, -1, getpid(), SIGUSR1));
    SHOW(syscall(SYS_tgkill, getpid(), 0, SIGUSR1));
    SHOW(syscall(SYS_tkill, getpid(), 65));
    pid_t p = fork();
    if (p == 0) {
        setpgid(0, 0);
        for (int i = 0; i < 2; i++)
            if (fork() == 0)
                for (;;)
                    pause();
        for (;;)
            pause();
    }
    while (getpgid(p) != p)
        sleep_ms(1);
    SHOW(kill(-p, 0));
    SHOW(killpg(p, SIGCONT));
    sleep_ms(2);
    SHOW(kill(-p, SIGTERM));
    wait_show("leader", p);
    for (int i = 0; i < 500 && kill(-p, 0) == 0; i++)
        sleep_ms(2); /* its children die too */
    SHOW(kill(-999999999, 0));
    p = fork();
    if (p == 0)
        _exit(0);
    siginfo_t si;
    MUST(waitid(P_PID, p, &si, WEXITED | WNOWAIT) == 0);
    SHOW(kill(p, SIGKILL)); /* a zombie can be sent to */
    wait_show("zombie", p);
    SHOW(kill(p, 0));
    return done();
}
