// modes: static dynamic musl
// timeout: 90
// waitpid with WNOHANG in a tight loop, and kill(pid, 0), until a computing child has ended.
#include "../common.h"

int main(void) {
    pid_t p = fork();
    if (p == 0) {
        volatile unsigned x = 1;
        for (int i = 0; i < 20000000; i++)
            x = x * 3 + 1;
        _exit(7);
    }
    int st;
    while (waitpid(p, &st, WNOHANG) == 0)
        ;
    show_status("child", st);
    p = fork();
    if (p == 0) {
        if (fork() == 0) {
            volatile unsigned x = 1;
            for (int i = 0; i < 5000000; i++)
                x = x * 3 + 1;
            put_file("ended", "x");
            _exit(0);
        }
        _exit(0);
    }
    waitpid(p, &st, 0);
    while (access("ended", F_OK))
        ;
    puts("the file came");
    return 0;
}
