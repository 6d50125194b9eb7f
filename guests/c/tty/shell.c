// modes: static dynamic musl
// An interactive shell on a pseudo-terminal, typed at and read like a user would.
#include "../common.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static int m;
static char screen[65536];
static size_t used;
static bool wait_for_text(const char *what) {
    for (int i = 0; i < 6000; i++) {
        if (strstr(screen, what))
            return true;
        struct pollfd p = {m, POLLIN, 0};
        if (poll(&p, 1, 20) == 1) {
            ssize_t n = read(m, screen + used, sizeof screen - 1 - used);
            if (n <= 0)
                return false;
            used += (size_t)n;
            screen[used] = 0;
        }
    }
    return false;
}
static void type(const char *keys) {
    used = 0;
    screen[0] = 0;
    MUST(write(m, keys, strlen(keys)) == (ssize_t)strlen(keys));
}

int main(void) {
    m = posix_openpt(O_RDWR | O_NOCTTY);
    MUST(m >= 0 && grantpt(m) == 0 && unlockpt(m) == 0);
    const char *name = ptsname(m);
    pid_t k = fork();
    if (k == 0) {
        setsid();
        int s = open(name, O_RDWR);
        for (int i = 0; i < 3; i++)
            dup2(s, i);
        setenv("PS1", "prompt> ", 1);
        unsetenv("ENV");
        close(m);
        execl("/bin/sh", "sh", "-i", NULL);
        _exit(99);
    }
    CHECK(wait_for_text("prompt> "));
    type("echo $((6*7)) answers\n");
    CHECK(wait_for_text("42 answers\r\nprompt> "));
    /* Said by who has the terminal: the shell itself would wait for the sleep's end. */
    type("sh -c \"echo be''gun; exec sleep 100\"\n");
    CHECK(wait_for_text("begun\r\n"));
    type("\x03");
    CHECK(wait_for_text("prompt> "));
    type("echo be''gun; cat\n");
    CHECK(wait_for_text("begun\r\n"));
    type("line\n");
    CHECK(wait_for_text("line\r\nline\r\n"));
    type("\x04");
    CHECK(wait_for_text("prompt> "));
    type("stty -echo; echo no; stty echo\n");
    CHECK(wait_for_text("no\r\nprompt> "));
    type("exit 6\n");
    int st;
    MUST(waitpid(k, &st, 0) == k);
    show_status("shell", st);
    return done();
}
