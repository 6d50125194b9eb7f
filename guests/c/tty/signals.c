// modes: static dynamic musl
// A controlling terminal: Ctrl-C, Ctrl-\ and Ctrl-Z reach the foreground group, the size change too, hang-up ends the session.
#include "../common.h"
#include <sys/ioctl.h>
#include <termios.h>

static int report;
static void handler(int s) { dprintf(report, "%s\n", sig_name(s)); }
static void expect(int fd) {
    char c;
    while (read(fd, &c, 1) == 1 && c != '\n')
        putchar(c);
    puts("");
}

/* Types a key and takes its two characters of echo at once: the next signal key drops what the reader has not got yet (n_tty.c, isig). */
static void type(int m, const char *key) {
    char echo[2];
    MUST(write(m, key, 1) == 1);
    for (size_t n = 0; n < sizeof echo;) {
        ssize_t got = read(m, echo + n, sizeof echo - n);
        MUST(got > 0);
        n += got;
    }
    printf("echo %.2s\n", echo);
}

int main(void) {
    int m = posix_openpt(O_RDWR | O_NOCTTY), p[2];
    MUST(m >= 0 && grantpt(m) == 0 && unlockpt(m) == 0 && pipe(p) == 0);
    report = p[1];
    const char *name = ptsname(m);
    pid_t k = fork();
    if (k == 0) {
        MUST(setsid() == getpid());
        int s = open(name, O_RDWR); /* becomes the controlling terminal */
        int tty = open("/dev/tty", O_RDWR);
        dprintf(report, "tty %d group %d session %d\n", tty >= 0, tcgetpgrp(s) == getpid(), tcgetsid(s) == getpid());
        const int sigs[] = {SIGINT, SIGQUIT, SIGTSTP, SIGWINCH, SIGHUP, SIGCONT};
        for (int i = 0; i < 6; i++)
            signal(sigs[i], handler);
        close(m);
        dprintf(report, "ready\n");
        for (;;)
            pause();
    }
    expect(p[0]);
    expect(p[0]);
    type(m, "\x03");
    expect(p[0]);
    type(m, "\x1c");
    expect(p[0]);
    type(m, "\x1a");
    expect(p[0]);
    struct winsize w = {10, 20, 0, 0};
    SHOW(ioctl(m, TIOCSWINSZ, &w));
    expect(p[0]);
    SHOW(ioctl(m, TIOCSIG, SIGINT));
    expect(p[0]);
    close(m);
    expect(p[0]);
    expect(p[0]);
    kill(k, SIGKILL);
    wait_show("session", k);
    return done();
}
