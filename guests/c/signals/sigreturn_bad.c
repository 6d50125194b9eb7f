// modes: static dynamic musl
// A signal whose stack is unusable, or whose frame is destroyed, kills by SIGSEGV.
#include "../common.h"

static void handler(int s) { (void)s, puts("not reached"); }
static void smash(int s, siginfo_t *i, void *u) {
    (void)s, (void)i;
    memset(u, 0xff, 200);
}

int main(void) {
    no_core();
    pid_t p = fork();
    if (p == 0) {
        signal(SIGUSR1, handler);
        long pid = getpid();
        __asm__ volatile("mov $16,%%rsp\n syscall\n ud2" : : "a"(SYS_kill), "D"(pid), "S"(SIGUSR1) : "memory");
    }
    wait_show("no stack", p);
    p = fork();
    if (p == 0) {
        struct sigaction a = {.sa_sigaction = smash, .sa_flags = SA_SIGINFO};
        sigaction(SIGUSR1, &a, NULL);
        raise(SIGUSR1);
        _exit(0);
    }
    wait_show("smashed frame", p);
    p = fork();
    if (p == 0) {
        stack_t ss = {.ss_sp = (void *)0x10000, .ss_size = 65536};
        sigaltstack(&ss, NULL);
        struct sigaction a = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
        sigaction(SIGUSR1, &a, NULL);
        raise(SIGUSR1);
        _exit(0);
    }
    wait_show("alternate stack that is not there", p);
    p = fork();
    if (p == 0) {
        __asm__ volatile("xor %%edi,%%edi\n mov $15,%%eax\n sub $4096,%%rsp\n syscall\n ud2" ::: "rax", "rdi", "memory");
        _exit(0);
    }
    int st;
    MUST(waitpid(p, &st, 0) == p);
    CHECK(WIFSIGNALED(st) && (WTERMSIG(st) == SIGSEGV || WTERMSIG(st) == SIGILL));
    return done();
}
