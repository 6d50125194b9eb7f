// modes: static dynamic musl
// timeout: 90
// A spinning child dies by SIGTERM, SIGKILL, an alarm of its own, and RLIMIT_CPU's SIGXCPU is not needed for it.
#include "../common.h"

int main(void) {
    const int sigs[] = {SIGTERM, SIGKILL, SIGALRM};
    for (int i = 0; i < 3; i++) {
        int p[2];
        char c;
        MUST(pipe(p) == 0);
        pid_t k = fork();
        if (k == 0) {
            if (sigs[i] == SIGALRM) {
                struct itimerval it = {{0, 0}, {0, 5000}};
                setitimer(ITIMER_REAL, &it, NULL);
            }
            MUST(write(p[1], "x", 1) == 1);
            for (;;)
                ;
        }
        MUST(read(p[0], &c, 1) == 1);
        if (sigs[i] != SIGALRM)
            kill(k, sigs[i]);
        wait_show("spinner", k);
    }
    return 0;
}
