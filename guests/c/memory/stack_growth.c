// modes: static dynamic musl
// The stack grows on demand, up to its limit; beyond it SIGSEGV, caught on an alternate stack.
#include "../common.h"
#include <setjmp.h>

static sigjmp_buf jump;
static volatile int level;
static char alt[65536];
static void on_segv(int s, siginfo_t *i, void *u) {
    (void)u;
    int here;
    bool on_alt = (char *)&here >= alt && (char *)&here < alt + sizeof alt;
    printf("%s on the alternate stack %d, address set %d\n", sig_name(s), on_alt, i->si_addr != NULL);
    siglongjmp(jump, 1);
}
static __attribute__((noinline)) int endless(int n) {
    volatile char pad[4000];
    pad[0] = (char)n;
    level = n;
    return endless(n + 1) + pad[0];
}

int main(void) {
    stack_t st = {.ss_sp = alt, .ss_size = sizeof alt};
    SHOW(sigaltstack(&st, NULL));
    struct sigaction sa = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &sa, NULL);
    struct rlimit r;
    MUST(getrlimit(RLIMIT_STACK, &r) == 0);
    for (int round = 0; round < 2; round++) {
        if (sigsetjmp(jump, 1) == 0)
            endless(0);
        long used = level * 4096L;
        CHECK(used > (long)r.rlim_cur / 2 && used <= (long)r.rlim_cur + 200000);
    }
    /* Without a handler it kills. */
    no_core();
    pid_t p = fork();
    if (p == 0) {
        signal(SIGSEGV, SIG_DFL);
        endless(0);
    }
    wait_show("child", p);
    return done();
}
