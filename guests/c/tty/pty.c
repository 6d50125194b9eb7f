// modes: static dynamic musl
// A pseudo-terminal: opening, names, canonical lines, echo, erase, kill, end of file, raw mode, output processing.
#include "../common.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static int m, s;
/* `least` bytes come together: a line can be read before the last of its echo has come to the master. */
static void show_all(const char *what, int fd, ssize_t least) {
    char b[256];
    ssize_t n = read(fd, b, sizeof b);
    struct pollfd p = {fd, POLLIN, 0};
    while (fd == m && n > 0 && n < (ssize_t)sizeof b && poll(&p, 1, n < least ? 60000 : 20) > 0 && p.revents & POLLIN) {
        ssize_t more = read(fd, b + n, sizeof b - n);
        if (more <= 0) break;
        n += more;
    }
    printf("%s %zd:", what, n);
    for (ssize_t i = 0; i < n; i++)
        printf(b[i] < 32 || b[i] > 126 ? " %02x" : " %c", b[i] & 0xff);
    puts("");
}
static void show(const char *what, int fd) { show_all(what, fd, 1); }
static void type(const char *keys) { MUST(write(m, keys, strlen(keys)) == (ssize_t)strlen(keys)); }

int main(void) {
    m = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(m >= 0);
    SHOW(grantpt(m));
    SHOW(unlockpt(m));
    char *name = ptsname(m);
    CHECK(name && strncmp(name, "/dev/pts/", 9) == 0);
    s = open(name, O_RDWR | O_NOCTTY);
    CHECK(s >= 0);
    SHOW(isatty(s));
    SHOW(isatty(m));
    char link[64];
    CHECK(ttyname_r(s, link, sizeof link) == 0 && strcmp(link, name) == 0);
    struct stat st;
    MUST(fstat(s, &st) == 0);
    CHECK(S_ISCHR(st.st_mode));
    struct termios t;
    SHOW(tcgetattr(s, &t));
    printf("i %x o %x c %x l %x\n", t.c_iflag, t.c_oflag, t.c_cflag & ~CBAUD, t.c_lflag);
    printf("intr %d quit %d erase %d kill %d eof %d susp %d\n", t.c_cc[VINTR], t.c_cc[VQUIT], t.c_cc[VERASE], t.c_cc[VKILL], t.c_cc[VEOF], t.c_cc[VSUSP]);
    type("hello\n");
    show("line", s);
    show_all("echo", m, 7);
    type("abc\x7f\x7fxy\n");
    show("erased", s);
    show_all("echo", m, 13);
    type("gone\x15kept\r");
    show("killed", s);
    show_all("echo", m, 22);
    type("part");
    type("\x04");
    show("pushed by end of file", s);
    type("\x04");
    show("end of file", s);
    show_all("echo", m, 4);
    MUST(write(s, "out\n", 4) == 4);
    show_all("output", m, 5);
    int n;
    type("two\nlines\n");
    SHOW(ioctl(s, FIONREAD, &n));
    show("first", s);
    show("second", s);
    show_all("echo", m, 12);
    cfmakeraw(&t);
    SHOW(tcsetattr(s, TCSANOW, &t));
    type("r\x03w\x04");
    show("raw", s);
    MUST(write(s, "o\n", 2) == 2);
    show_all("raw output", m, 2);
    t.c_cc[VMIN] = 0;
    t.c_cc[VTIME] = 0;
    SHOW(tcsetattr(s, TCSANOW, &t));
    show("nothing waits", s);
    t.c_cc[VTIME] = 1;
    SHOW(tcsetattr(s, TCSANOW, &t));
    show("a tenth of a second", s);
    type("x");
    SHOW(tcflush(s, TCIFLUSH));
    show("flushed", s);
    struct winsize w = {30, 100, 0, 0}, back;
    SHOW(ioctl(m, TIOCSWINSZ, &w));
    SHOW(ioctl(s, TIOCGWINSZ, &back));
    printf("%d x %d\n", back.ws_row, back.ws_col);
    SHOW(close(m));
    show("hung up", s);
    SHOW(write(s, "x", 1));
    SHOW(tcgetattr(s, &t));
    return done();
}
