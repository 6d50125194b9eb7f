// modes: static dynamic musl
// timeout: 90
// Ten timer signals arrive in a loop that makes no call at all.
#include "../common.h"

static volatile sig_atomic_t hits;
static void handler(int s) { (void)s, hits++; }

int main(void) {
    signal(SIGALRM, handler);
    struct itimerval it = {{0, 2000}, {0, 2000}};
    setitimer(ITIMER_REAL, &it, NULL);
    while (hits < 10)
        ;
    it = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &it, NULL);
    puts("ten ticks");
    return 0;
}
