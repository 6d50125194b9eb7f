// modes: static dynamic musl
// sigaltstack: handlers with SA_ONSTACK run there, nested too; state is told; SS_AUTODISARM; limits.
#include "../common.h"
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

static char stack_a[32768], other[32768];
static bool inside(void *p) { return (char *)p >= stack_a && (char *)p < stack_a + sizeof stack_a; }
static void on_usr1(int s) {
    stack_t now, ss = {.ss_sp = other, .ss_size = sizeof other};
    MUST(sigaltstack(NULL, &now) == 0);
    printf("%s on the stack %d, flags %d\n", sig_name(s), inside(&s), now.ss_flags & 3);
    SHOW(sigaltstack(&ss, NULL));
    raise(SIGUSR2);
}
static void on_usr2(int s) { printf("%s on the stack %d\n", sig_name(s), inside(&s)); }
static void on_auto(int s) {
    stack_t now, ss = {.ss_sp = other, .ss_size = sizeof other};
    MUST(sigaltstack(NULL, &now) == 0);
    printf("%s on the stack %d, flags %d\n", sig_name(s), inside(&s), now.ss_flags & 3);
    SHOW(sigaltstack(&ss, NULL));
}

int main(void) {
    stack_t now, ss = {.ss_sp = stack_a, .ss_size = sizeof stack_a};
    SHOW(sigaltstack(NULL, &now));
    SHOW(now.ss_flags);
    SHOW(sigaltstack(&ss, NULL));
    SHOW(sigaltstack(NULL, &now));
    CHECK(now.ss_sp == stack_a && now.ss_size == sizeof stack_a && now.ss_flags == 0);
    struct sigaction a = {.sa_handler = on_usr1, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &a, NULL);
    a.sa_handler = on_usr2;
    sigaction(SIGUSR2, &a, NULL);
    raise(SIGUSR1);
    raise(SIGUSR2);
    a.sa_flags = 0;
    sigaction(SIGUSR2, &a, NULL);
    raise(SIGUSR2); /* without SA_ONSTACK: the ordinary stack */
    ss.ss_flags = (int)SS_AUTODISARM;
    SHOW(sigaltstack(&ss, NULL));
    a.sa_handler = on_auto;
    a.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR1, &a, NULL);
    raise(SIGUSR1);
    SHOW(sigaltstack(NULL, &now));
    CHECK(now.ss_sp == stack_a); /* sigreturn put it back */
    raise(SIGUSR1);
    ss.ss_flags = 0;
    ss.ss_size = 100;
    SHOW(sigaltstack(&ss, NULL));
    ss.ss_flags = 99;
    ss.ss_size = sizeof stack_a;
    SHOW(sigaltstack(&ss, NULL));
    SHOW(syscall(SYS_sigaltstack, BAD, NULL));
    ss.ss_flags = SS_DISABLE;
    SHOW(sigaltstack(&ss, NULL));
    SHOW(sigaltstack(NULL, &now));
    SHOW(now.ss_flags);
    pid_t p = fork();
    if (p == 0) {
        sigaltstack(NULL, &now);
        child_exit(now.ss_flags);
    }
    wait_show("child sees it disabled", p);
    return done();
}
