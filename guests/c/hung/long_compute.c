// modes: static dynamic musl
// timeout: 90
// A second of computing with nothing else to run: the same digits, and input that came meanwhile is there after it.
#include "../common.h"

int main(void) {
    int p[2];
    MUST(pipe(p) == 0);
    pid_t k = fork();
    if (k == 0) {
        sleep_ms(20);
        MUST(write(p[1], "meanwhile", 9) == 9);
        _exit(0);
    }
    unsigned long x = 88172645463325252UL;
    double f = 1;
    for (int i = 0; i < 60000000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        f = f * 0.999999 + (double)(x & 7);
    }
    printf("%lx %.17g\n", x, f);
    char b[16] = {0};
    SHOW(read(p[0], b, sizeof b));
    puts(b);
    wait_show("child", k);
    return 0;
}
