// modes: static dynamic musl
// SIGFPE, SIGILL, SIGTRAP: codes, and death by each when there is no handler or it is blocked.
#include "../common.h"
#include <fenv.h>
#include <setjmp.h>

static sigjmp_buf jump;
static siginfo_t last;
static void handler(int s, siginfo_t *i, void *u) {
    (void)s, (void)u;
    last = *i;
    siglongjmp(jump, 1);
}
static volatile int zero, minimum = INT_MIN, minus_one = -1;
static volatile double dzero, one = 1;
static void divide(void) { zero = 1 / zero; }
static void overflow(void) { zero = minimum / minus_one; }
static void illegal(void) { __asm__ volatile("ud2"); }
static void breakpoint(void) { __asm__ volatile("int3"); }
static void floating(void) {
    unsigned csr = 0x1f80 & ~0x200u; /* unmask division by zero */
    __asm__ volatile("ldmxcsr %0" : : "m"(csr));
    dzero = one / dzero;
}
static void step(void) { __asm__ volatile("sub $256,%%rsp; pushfq; orq $0x100,(%%rsp); popfq; nop; nop; add $256,%%rsp" ::: "memory", "cc"); }

int main(void) {
    struct { const char *name; void (*f)(void); } all[] = {
        {"divide", divide}, {"overflow", overflow}, {"illegal", illegal}, {"breakpoint", breakpoint}, {"float", floating}, {"step", step}};
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    const int sigs[] = {SIGFPE, SIGILL, SIGTRAP};
    no_core();
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 3; k++)
            sigaction(sigs[k], &a, NULL);
        if (sigsetjmp(jump, 1) == 0) {
            all[i].f();
            printf("%s: nothing\n", all[i].name);
        } else
            printf("%s: %s code %d\n", all[i].name, sig_name(last.si_signo), last.si_code);
        for (int how = 0; how < 3; how++) {
            pid_t p = fork();
            if (p == 0) {
                for (int k = 0; k < 3; k++)
                    signal(sigs[k], how == 1 ? SIG_IGN : SIG_DFL);
                if (how == 2) {
                    sigset_t set;
                    sigfillset(&set);
                    sigprocmask(SIG_BLOCK, &set, NULL);
                }
                all[i].f();
                _exit(0);
            }
            wait_show(how == 0 ? " default" : how == 1 ? " ignored" : " blocked", p);
        }
    }
    return done();
}
