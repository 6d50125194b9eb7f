// modes: static dynamic musl
// SIGSEGV: code and address for each kind of bad access; recovery by siglongjmp again and again.
#include "../common.h"
#include <setjmp.h>

static sigjmp_buf jump;
static siginfo_t last;
static int trap_error;
static void handler(int s, siginfo_t *i, void *u) {
    (void)s;
    last = *i;
    trap_error = (int)((ucontext_t *)u)->uc_mcontext.gregs[19]; /* REG_ERR */
    siglongjmp(jump, 1);
}
static void try(const char *what, volatile char *p, int write_it) {
    if (sigsetjmp(jump, 1) == 0) {
        if (write_it)
            *p = 1;
        else
            (void)*p;
        printf("%s: no fault\n", what);
    } else
        printf("%s: %s code %d address %s error %d\n", what, sig_name(last.si_signo), last.si_code,
               last.si_addr == (void *)p ? "exact" : last.si_addr == NULL ? "null" : "other", trap_error & 3);
}

int main(void) {
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &a, NULL);
    sigaction(SIGBUS, &a, NULL);
    try("null read", NULL, 0);
    try("null write", NULL, 1);
    try("low read", (char *)0x1234, 0);
    char *m = mmap(NULL, 12288, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(m + 8192, 4096);
    try("unmapped", m + 8192 + 77, 0);
    // Before it was touched, the error code would say that the page is not there.
    (void)*(volatile char *)(m + 5000);
    try("read-only write", m + 5000, 1);
    mprotect(m, 4096, PROT_NONE);
    try("PROT_NONE read", m + 10, 0);
    try("PROT_NONE write", m + 10, 1);
    try("not canonical", (char *)0x8000000000001234, 0);
    try("kernel half", (char *)0xffffffff81000000, 0);
    try("text write", (char *)main, 1);
    int good = 0;
    for (int i = 0; i < 2000; i++)
        if (sigsetjmp(jump, 1))
            good += last.si_addr == m + i;
        else
            m[i] = 1;
    SHOW(good);
    sigset_t set;
    sigprocmask(SIG_BLOCK, NULL, &set);
    SHOW(sigismember(&set, SIGSEGV));
    return done();
}
