// modes: static dynamic musl
// A forking TCP server and five client processes on loopback.
#include "../common.h"
#include "../net.h"

int main(void) {
    int l = listener4(), port = port_of(l);
    pid_t server = fork();
    if (server == 0) {
        for (int i = 0; i < 5; i++) {
            int s = accept(l, NULL, NULL);
            MUST(s >= 0);
            if (fork() == 0) {
                char b[128];
                ssize_t n;
                while ((n = read(s, b, sizeof b)) > 0)
                    MUST(write(s, b, n) == n);
                _exit(0);
            }
            close(s);
        }
        while (wait(NULL) > 0)
            ;
        _exit(0);
    }
    close(l);
    pid_t c[5];
    for (int i = 0; i < 5; i++)
        if ((c[i] = fork()) == 0) {
            int s = dial4(port);
            char b[100], r[100];
            for (int k = 0; k < 50; k++) {
                memset(b, 'a' + (i + k) % 26, sizeof b);
                MUST(write(s, b, 100) == 100 && recv(s, r, 100, MSG_WAITALL) == 100 && memcmp(b, r, 100) == 0);
            }
            _exit(i + 1);
        }
    int sum = 0;
    for (int i = 0; i < 5; i++) {
        int st;
        MUST(waitpid(c[i], &st, 0) == c[i] && WIFEXITED(st));
        sum += WEXITSTATUS(st);
    }
    SHOW(sum);
    wait_show("server", server);
    return done();
}
