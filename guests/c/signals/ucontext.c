// modes: static dynamic musl
// The frame a handler gets: registers, mask, stack, floating-point state; changes take effect at return.
#include "../common.h"
#include <ucontext.h>

static void handler(int s, siginfo_t *i, void *v) {
    (void)s, (void)i;
    ucontext_t *u = v;
    long long *g = (long long *)u->uc_mcontext.gregs;
    printf("rbx %llx r12 %llx r15 %llx\n", g[11], g[4], g[7]);
    int local;
    CHECK((uintptr_t)g[15] > (uintptr_t)&local && (uintptr_t)g[15] < (uintptr_t)&local + 65536);
    CHECK(u->uc_mcontext.fpregs != NULL && (uintptr_t)u->uc_mcontext.fpregs % 64 == 0);
    SHOW(sigismember(&u->uc_sigmask, SIGUSR1));
    SHOW(sigismember(&u->uc_sigmask, SIGHUP));
    sigaddset(&u->uc_sigmask, SIGTERM);
    sigdelset(&u->uc_sigmask, SIGHUP);
    g[11] = 0x1111;
    g[4] = 0x2222;
    /* the first xmm register lies at 160 in the fxsave image */
    double d;
    memcpy(&d, (char *)u->uc_mcontext.fpregs + 160, 8);
    printf("xmm0 %g\n", d);
    d = 2.5;
    memcpy((char *)u->uc_mcontext.fpregs + 160, &d, 8);
}

int main(void) {
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &a, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    long rbx, r12, pid = getpid(), tid = syscall(SYS_gettid), r;
    double x = 1.5;
    __asm__ volatile("mov $0xabc,%%rbx\n mov $0xdef,%%r12\n mov $0x777,%%r15\n movsd %5,%%xmm0\n syscall\n mov %%rbx,%1\n mov %%r12,%2\n movsd %%xmm0,%5"
                     : "=a"(r), "=&r"(rbx), "=&r"(r12) : "0"(SYS_tgkill), "D"(pid), "m"(x), "S"(tid), "d"(SIGUSR1)
                     : "rbx", "r12", "r15", "rcx", "r11", "xmm0", "memory");
    printf("%lx %lx %g\n", rbx, r12, x);
    sigprocmask(SIG_BLOCK, NULL, &set);
    printf("TERM %d HUP %d USR1 %d\n", sigismember(&set, SIGTERM), sigismember(&set, SIGHUP), sigismember(&set, SIGUSR1));
    return done();
}
