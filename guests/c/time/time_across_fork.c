// modes: static dynamic musl
// Parent and child read one clock: a time sent through a pipe is never in the future of its reader.
#include "../common.h"

int main(void) {
    int a[2], b[2];
    MUST(pipe(a) == 0 && pipe(b) == 0);
    int64_t t;
    pid_t p = fork();
    if (p == 0) {
        int bad = 0;
        for (int i = 0; i < 200; i++) {
            MUST(read(a[0], &t, 8) == 8);
            bad += now_ns(CLOCK_MONOTONIC) < t;
            t = now_ns(CLOCK_MONOTONIC);
            MUST(write(b[1], &t, 8) == 8);
        }
        _exit(bad);
    }
    int bad = 0;
    for (int i = 0; i < 200; i++) {
        t = now_ns(CLOCK_MONOTONIC);
        MUST(write(a[1], &t, 8) == 8);
        MUST(read(b[0], &t, 8) == 8);
        bad += now_ns(CLOCK_MONOTONIC) < t;
    }
    SHOW(bad);
    wait_show("child", p);
    return done();
}
