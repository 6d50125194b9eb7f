// modes: static dynamic musl
// Job control on a terminal: a background reader is stopped by SIGTTIN, a writer by SIGTTOU with TOSTOP, tcsetpgrp moves the foreground.
#include "../common.h"
#include <sys/ioctl.h>
#include <termios.h>

int main(void) {
    int m = posix_openpt(O_RDWR | O_NOCTTY), out[2];
    MUST(m >= 0 && grantpt(m) == 0 && unlockpt(m) == 0 && pipe(out) == 0);
    const char *name = ptsname(m);
    pid_t session = fork();
    if (session == 0) {
        MUST(setsid() == getpid());
        int s = open(name, O_RDWR), st;
        dup2(out[1], 1);
        signal(SIGTTOU, SIG_IGN); /* as a shell does */
        pid_t k = fork();
        if (k == 0) {
            signal(SIGTTOU, SIG_DFL);
            setpgid(0, 0);
            char b[16];
            ssize_t n = read(s, b, sizeof b);
            _exit(n > 0 ? 40 + (int)n : errno == EIO ? 5 : 6);
        }
        setpgid(k, k);
        MUST(waitpid(k, &st, WUNTRACED) == k);
        show_status("background reader", st);
        SHOW(tcsetpgrp(s, k));
        CHECK(tcgetpgrp(s) == k);
        kill(-k, SIGCONT);
        MUST(write(m, "typed\n", 6) == 6);
        MUST(waitpid(k, &st, 0) == k);
        show_status("in the foreground", st);
        SHOW(tcsetpgrp(s, getpid()));
        struct termios t;
        tcgetattr(s, &t);
        t.c_lflag |= TOSTOP;
        SHOW(tcsetattr(s, TCSANOW, &t));
        for (int how = 0; how < 3; how++) {
            k = fork();
            if (k == 0) {
                setpgid(0, 0);
                if (how != 1)
                    signal(SIGTTOU, SIG_DFL);
                if (how == 2)
                    tcsetattr(s, TCSANOW, &t);
                else
                    (void)!write(s, "x", 1);
                _exit(7);
            }
            setpgid(k, k);
            MUST(waitpid(k, &st, WUNTRACED) == k);
            show_status(how == 0 ? "background writer" : how == 1 ? "that ignores SIGTTOU" : "background tcsetattr", st);
            kill(-k, SIGKILL);
            if (WIFSTOPPED(st))
                waitpid(k, &st, 0);
        }
        k = fork();
        if (k == 0) {
            setpgid(0, 0);
            signal(SIGTTIN, SIG_IGN);
            char c;
            _exit(read(s, &c, 1) == -1 && errno == EIO ? 8 : 9);
        }
        wait_show("reader that ignores SIGTTIN", k);
        SHOW(tcsetpgrp(s, 999999));
        SHOW(tcsetpgrp(s, -1));
        SHOW(ioctl(s, TIOCSCTTY, 0));
        SHOW(ioctl(s, TIOCNOTTY));
        child_exit(0);
    }
    close(out[1]);
    char b[4096];
    ssize_t n, total = 0;
    while ((n = read(out[0], b + total, sizeof b - 1 - total)) > 0)
        total += n;
    b[total] = 0;
    fputs(b, stdout);
    int st;
    MUST(waitpid(session, &st, 0) == session);
    show_status("session", st);
    return done();
}
