// modes: static dynamic
// timeout: 90
// exit: 137
// RLIMIT_CPU: SIGXCPU at the soft limit, then each second, SIGKILL at the hard one.
#include "../common.h"
static volatile sig_atomic_t hits;
static void handler(int s) { (void)s; hits++; write(1, "SIGXCPU\n", 8); }
int main(void) {
    struct rlimit r = {1, 3};
    signal(SIGXCPU, handler);
    MUST(setrlimit(RLIMIT_CPU, &r) == 0);
    for (volatile long i = 0;; i++)
        ;
}
