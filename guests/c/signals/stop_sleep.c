// modes: static dynamic musl
// A stop and a continue do not end a sleep, a poll, a read or a futex wait; times go on meanwhile.
#include "../common.h"
#include "../futex.h"
#include <poll.h>

int main(void) {
    for (int i = 0; i < 5; i++) {
        int p[2];
        MUST(pipe(p) == 0);
        pid_t k = fork();
        if (k == 0) {
            struct timespec t = {0, 40000000};
            struct pollfd pf = {p[0], POLLIN, 0};
            static int word;
            char c;
            int64_t start = now_ns(CLOCK_MONOTONIC);
            long r = i == 0 ? nanosleep(&t, NULL) : i == 1 ? poll(&pf, 1, 40) : i == 2 ? futex(&word, FUTEX_WAIT, 0, &t, NULL, 0)
                   : i == 3 ? read(p[0], &c, 1) : clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
            printf("%d: %ld %s %s\n", i, r, r == -1 ? err_name(errno) : "", now_ns(CLOCK_MONOTONIC) - start >= (i == 3 ? 0 : 40000000) ? "late enough" : "FAIL early");
            fflush(stdout);
            _exit(0);
        }
        sleep_ms(5);
        int st = -1;
        for (int n = 0; n < 3; n++) {
            kill(k, SIGSTOP);
            MUST(waitpid(k, &st, WUNTRACED) == k);
            if (!WIFSTOPPED(st))
                break; /* on a busy machine it may have come to its end */
            sleep_ms(2);
            kill(k, SIGCONT);
        }
        MUST(write(p[1], "x", i == 3) == (i == 3));
        if (WIFSTOPPED(st))
            MUST(waitpid(k, &st, 0) == k);
        show_status("child", st);
    }
    return done();
}
