// modes: bare
// The RIP that a handler sees lies in the program's own text, right behind the system call that raised it; a timer's
// somewhere in the loop. Stack and flags are the program's too.
#include "../bare.h"

volatile u64 rip, rsp, hits, outside;
extern char loop_begin[], loop_end[], behind[];
static void on_usr1(int s, void *i, void *uc) {
    (void)s, (void)i;
    rip = uc_regs(uc)[RIP];
    rsp = uc_regs(uc)[RSP];
    hits++;
}
u64 begun; /* named by the loop: what comes before it, or behind its end, is not outside of it */
static void on_alarm(int s, void *i, void *uc) {
    (void)s, (void)i;
    u64 at = uc_regs(uc)[RIP];
    if (begun && hits < 20 && (at < (u64)loop_begin || at >= (u64)loop_end))
        outside++;
    hits++;
}

static void main_(u64 *sp) {
    (void)sp;
    i64 pid = sys0(NR_getpid), tid = sys0(NR_gettid), r;
    on_signal(10, on_usr1, 0);
    on_signal(14, on_alarm, 0x10000000);
    int right = 1;
    for (int k = 0; k < 200; k++) {
        u64 here;
        __asm__ volatile("mov %%rsp,%1\n syscall\nbehind: nop" : "=a"(r), "=&r"(here) : "0"(NR_tgkill), "D"(pid), "S"(tid), "d"(10) : "rcx", "r11", "memory");
        right &= rip == (u64)behind && rsp == here && r == 0;
    }
    check("behind the call, on the same stack", right);
    put_num("signals", (i64)hits);
    hits = 0;
    struct { i64 is, iu, vs, vu; } it = {0, 400, 0, 400};
    sys3(38, 0, &it, 0); /* setitimer */
    u64 wrong = 0;
    __asm__ volatile("movq $1,begun(%%rip)\nloop_begin: mov $39,%%eax\n syscall\n cmp %2,%%rax\n je 1f\n inc %0\n1: mov $110,%%eax\n syscall\n"
                     "cmpq $20,%1\n jb loop_begin\n nop\nloop_end:"
                     : "+&r"(wrong), "+m"(hits) : "r"(pid) : "rax", "rcx", "r11", "memory", "cc");
    it.iu = it.vu = 0;
    sys3(38, 0, &it, 0);
    put_num("wrong results", (i64)wrong);
    put_num("outside of the loop", (i64)outside);
    quit(0);
}
