// modes: static dynamic musl
// A listening socket and a connection shared with forked children: any may accept, the last close ends it.
#include "../common.h"
#include "../net.h"

int main(void) {
    int l = listener4(), port = port_of(l);
    pid_t k[3];
    for (int i = 0; i < 3; i++)
        if ((k[i] = fork()) == 0) {
            int s = accept(l, NULL, NULL);
            MUST(s >= 0 && write(s, "served", 6) == 6);
            _exit(0);
        }
    char b[8];
    for (int i = 0; i < 3; i++) {
        int c = dial4(port);
        MUST(recv(c, b, 6, MSG_WAITALL) == 6);
        SHOW(read(c, b, 1));
        close(c);
    }
    for (int i = 0; i < 3; i++)
        wait_show("worker", k[i]);
    int c = dial4(port), s = accept(l, NULL, NULL), p[2];
    MUST(pipe(p) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(p[1]);
        MUST(read(p[0], b, 1) == 0);
        MUST(write(s, "from the child", 14) == 14);
        _exit(0);
    }
    close(s); /* the child still has it: no end of file yet */
    struct pollfd pf = {c, POLLIN, 0};
    SHOW(poll(&pf, 1, 3));
    close(p[0]);
    close(p[1]);
    char text[32] = {0};
    SHOW(recv(c, text, 14, MSG_WAITALL));
    puts(text);
    wait_show("child", child);
    SHOW(read(c, text, 1));
    return done();
}
