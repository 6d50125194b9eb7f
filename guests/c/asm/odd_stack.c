// modes: bare
// The stack pointer at a system call is the program's own affair: unaligned, zero, or unmapped.
#include "../bare.h"

static i64 with_sp(u64 sp, i64 nr) {
    i64 r;
    __asm__ volatile("mov %%rsp,%%r12\n mov %1,%%rsp\n syscall\n cmp %1,%%rsp\n mov %%r12,%%rsp\n je 1f\n mov $-1,%%rax\n1:"
                     : "=a"(r) : "b"(sp), "a"(nr) : "rcx", "r11", "r12", "memory", "cc");
    return r;
}

static void main_(u64 *sp) {
    i64 pid = sys0(NR_getpid);
    int good = 1;
    for (int i = 0; i < 16; i++)
        good &= with_sp((u64)sp - 512 + i, NR_getpid) == pid;
    check("every alignment", good);
    static const u64 odd[] = {0, 8, 0x1000, 0x7ffffffffff0, 0xffff800000000000, ~0UL, 1};
    for (u64 i = 0; i < sizeof odd / sizeof *odd; i++)
        for (int k = 0; k < 3; k++)
            check("no stack at all", with_sp(odd[i], NR_getpid) == pid);
    check("yield without a stack", with_sp(0, NR_sched_yield) == 0);
    quit(0);
}
