// modes: static dynamic musl
// The master's view: EIO after the last slave closed, poll results, a slave opened again, packet of data left.
#include "../common.h"
#include <poll.h>
#include <termios.h>

int main(void) {
    char b[64] = {0};
    int m = posix_openpt(O_RDWR | O_NOCTTY);
    MUST(m >= 0 && grantpt(m) == 0 && unlockpt(m) == 0);
    struct pollfd p = {m, POLLIN | POLLOUT, 0};
    int s = open(ptsname(m), O_RDWR | O_NOCTTY);
    SHOW(poll(&p, 1, 0));
    SHOW(p.revents);
    SHOW(write(s, "data", 4));
    SHOW(poll(&p, 1, 1000));
    SHOW(p.revents);
    SHOW(close(s));
    SHOW(read(m, b, sizeof b));
    puts(b);
    SHOW(read(m, b, sizeof b));
    SHOW(poll(&p, 1, 0));
    CHECK(p.revents & POLLHUP);
    s = open(ptsname(m), O_RDWR | O_NOCTTY);
    SHOW(write(s, "again", 5));
    SHOW(read(m, b, sizeof b));
    fcntl(m, F_SETFL, O_NONBLOCK);
    SHOW(read(m, b, sizeof b));
    fcntl(s, F_SETFL, O_NONBLOCK);
    SHOW(read(s, b, sizeof b));
    SHOW(lseek(s, 0, SEEK_SET));
    SHOW(open("/dev/pts/99999", O_RDWR));
    return done();
}
