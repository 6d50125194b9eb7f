// modes: static dynamic musl
// timeout: 90
// A process that answers on a pipe stays alive beside two processes that compute for ever.
#include "../common.h"

int main(void) {
    int q[2], a[2];
    MUST(pipe(q) == 0 && pipe(a) == 0);
    pid_t k[2];
    for (int i = 0; i < 2; i++)
        if ((k[i] = fork()) == 0)
            for (;;)
                ;
    pid_t server = fork();
    if (server == 0) {
        char c;
        while (read(q[0], &c, 1) == 1 && c != 'q') {
            c ^= 0x20;
            MUST(write(a[1], &c, 1) == 1);
        }
        _exit(0);
    }
    char c;
    for (int i = 0; i < 20; i++) {
        MUST(write(q[1], "x", 1) == 1 && read(a[0], &c, 1) == 1 && c == 'X');
    }
    puts("twenty answers");
    MUST(write(q[1], "q", 1) == 1);
    wait_show("server", server);
    for (int i = 0; i < 2; i++) {
        kill(k[i], SIGKILL);
        wait_show("computer", k[i]);
    }
    return 0;
}
