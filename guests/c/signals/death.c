// modes: static dynamic musl
// Every signal's default action, as the parent sees it.
#include "../common.h"

int main(void) {
    no_core();
    for (int s = 1; s <= 64; s++) {
        if (s == 32 || s == 33 || s == SIGSTOP || s == SIGTSTP || s == SIGTTIN || s == SIGTTOU)
            continue;
        pid_t p = fork();
        if (p == 0) {
            kill(getpid(), s);
            _exit(0);
        }
        int st;
        MUST(waitpid(p, &st, 0) == p);
        printf("%2d ", s);
        show_status(sig_name(s), st);
    }
    return done();
}
