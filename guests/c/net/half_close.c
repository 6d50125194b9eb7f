// modes: static dynamic musl
// shutdown in each direction, data still in flight, EPIPE and SIGPIPE after it, end of file after the data.
#include "../common.h"
#include "../net.h"

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    int l = listener4(), c = dial4(port_of(l)), s = accept(l, NULL, NULL);
    char b[32] = {0};
    SHOW(write(c, "request", 7));
    SHOW(shutdown(c, SHUT_WR));
    SHOW(recv(s, b, 7, MSG_WAITALL));
    puts(b);
    SHOW(read(s, b, 1));
    SHOW(write(s, "answer", 6));
    memset(b, 0, sizeof b);
    SHOW(recv(c, b, 6, MSG_WAITALL));
    puts(b);
    SHOW(write(c, "x", 1));
    struct pollfd p = {s, POLLIN | POLLOUT | POLLRDHUP, 0};
    SHOW(poll(&p, 1, 0));
    SHOW(p.revents);
    SHOW(shutdown(s, SHUT_WR));
    SHOW(read(c, b, 1));
    p.fd = c;
    MUST(wait_for(c, POLLHUP));
    SHOW(poll(&p, 1, 0));
    SHOW(p.revents);
    SHOW(shutdown(c, SHUT_RDWR) == 0 || errno == ENOTCONN);
    c = dial4(port_of(l)), s = accept(l, NULL, NULL);
    SHOW(shutdown(s, SHUT_RD));
    SHOW(read(s, b, 1));
    SHOW(write(c, "y", 1));
    SHOW(write(s, "z", 1));
    SHOW(recv(c, b, 1, 0));
    return done();
}
