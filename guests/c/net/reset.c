// modes: static dynamic musl
// A reset by SO_LINGER 0 or by closing with unread data: ECONNRESET once, then end of file and EPIPE.
#include "../common.h"
#include "../net.h"

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    int l = listener4(), c = dial4(port_of(l)), s = accept(l, NULL, NULL);
    struct linger g = {1, 0}, back;
    socklen_t len = sizeof back;
    char b[8];
    SHOW(setsockopt(s, SOL_SOCKET, SO_LINGER, &g, sizeof g));
    SHOW(getsockopt(s, SOL_SOCKET, SO_LINGER, &back, &len));
    printf("%d %d\n", back.l_onoff, back.l_linger);
    SHOW(close(s));
    MUST(wait_for(c, POLLERR));
    SHOW(read(c, b, 1));
    SHOW(read(c, b, 1));
    SHOW(write(c, "x", 1));
    close(c);
    c = dial4(port_of(l)), s = accept(l, NULL, NULL);
    MUST(write(c, "unread", 6) == 6);
    MUST(wait_for(s, POLLIN));
    SHOW(close(s));
    MUST(wait_for(c, POLLERR));
    int e;
    len = sizeof e;
    SHOW(getsockopt(c, SOL_SOCKET, SO_ERROR, &e, &len));
    printf("%s\n", err_name(e));
    SHOW(read(c, b, 1));
    SHOW(send(c, "x", 1, MSG_NOSIGNAL));
    return done();
}
