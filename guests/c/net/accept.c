// modes: static dynamic musl
// accept4 flags, nonblocking accept, connections that queue before accept, inherited flags, closed before accept.
#include "../common.h"
#include "../net.h"

int main(void) {
    int l = listener4(), port = port_of(l);
    fcntl(l, F_SETFL, O_NONBLOCK);
    SHOW(accept(l, NULL, NULL));
    int c[3];
    for (int i = 0; i < 3; i++) {
        c[i] = dial4(port);
        MUST(write(c[i], &"abc"[i], 1) == 1);
    }
    CHECK(wait_for(l, POLLIN));
    int s = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    printf("flags %#x descriptor flags %d\n", fcntl(s, F_GETFL), fcntl(s, F_GETFD));
    char b;
    CHECK(wait_for(s, POLLIN));
    SHOW(read(s, &b, 1));
    SHOW(b);
    SHOW(read(s, &b, 1));
    MUST(wait_for(l, POLLIN));
    s = accept(l, NULL, NULL);
    printf("flags %#x descriptor flags %d\n", fcntl(s, F_GETFL), fcntl(s, F_GETFD));
    SHOW(read(s, &b, 1));
    SHOW(b);
    close(c[2]); /* closed before it is accepted: still there */
    MUST(wait_for(l, POLLIN));
    s = accept(l, NULL, NULL);
    SHOW(read(s, &b, 1));
    SHOW(b);
    SHOW(read(s, &b, 1));
    SHOW(accept4(l, NULL, NULL, 0x100));
    SHOW(accept(c[0], NULL, NULL));
    SHOW(accept(99, NULL, NULL));
    pid_t p = fork();
    if (p == 0) {
        sleep_ms(3);
        close(dial4(port));
        _exit(0);
    }
    fcntl(l, F_SETFL, 0);
    CHECK(accept(l, NULL, NULL) >= 0);
    wait_show("client", p);
    return done();
}
