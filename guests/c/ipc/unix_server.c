// modes: static dynamic musl
// A server process and ten client processes over a UNIX socket, each with a conversation.
#include "../common.h"
#include <sys/socket.h>
#include <sys/un.h>

int main(void) {
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "sock"};
    int l = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(bind(l, (void *)&a, sizeof a) == 0 && listen(l, 10) == 0);
    pid_t server = fork();
    if (server == 0) {
        for (int i = 0; i < 10; i++) {
            int s = accept(l, NULL, NULL);
            if (fork() == 0) {
                close(l);
                char b[64];
                ssize_t n;
                while ((n = read(s, b, sizeof b)) > 0) {
                    for (ssize_t k = 0; k < n; k++)
                        b[k] ^= 0x20;
                    MUST(write(s, b, n) == n);
                }
                _exit(0);
            }
            close(s);
        }
        while (wait(NULL) > 0)
            ;
        _exit(0);
    }
    pid_t c[10];
    for (int i = 0; i < 10; i++)
        if ((c[i] = fork()) == 0) {
            int s = socket(AF_UNIX, SOCK_STREAM, 0);
            MUST(connect(s, (void *)&a, sizeof a) == 0);
            for (int k = 0; k < 50; k++) {
                char b[8] = "message", r[8];
                b[0] = (char)('A' + i);
                MUST(write(s, b, 8) == 8 && recv(s, r, 8, MSG_WAITALL) == 8);
                MUST(r[0] == 'a' + i && r[1] == 'E');
            }
            _exit(i);
        }
    int sum = 0;
    for (int i = 0; i < 10; i++) {
        int st;
        MUST(waitpid(c[i], &st, 0) == c[i] && WIFEXITED(st));
        sum += WEXITSTATUS(st);
    }
    SHOW(sum);
    wait_show("server", server);
    return done();
}
