// modes: static dynamic musl
// exit: 141
// SIGPIPE: caught, ignored, not raised by MSG_NOSIGNAL, and deadly by default.
#include "../common.h"
#include <sys/socket.h>

static volatile sig_atomic_t hits;
static void handler(int s) { (void)s, hits++; }

int main(void) {
    int p[2], s[2];
    MUST(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    close(p[0]);
    close(s[0]);
    signal(SIGPIPE, handler);
    SHOW(write(p[1], "x", 1));
    SHOW(hits);
    SHOW(write(s[1], "x", 1));
    SHOW(send(s[1], "x", 1, 0));
    SHOW(hits);
    SHOW(send(s[1], "x", 1, MSG_NOSIGNAL));
    SHOW(hits);
    SHOW(write(p[1], "", 0));
    signal(SIGPIPE, SIG_IGN);
    SHOW(write(p[1], "x", 1));
    signal(SIGPIPE, SIG_DFL);
    puts("and now");
    (void)!write(p[1], "x", 1);
    puts("not reached");
}
