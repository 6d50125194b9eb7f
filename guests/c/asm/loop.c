// modes: bare
// One site, 200,000 calls, with the counter in every kind of register.
#include "../bare.h"

static void main_(u64 *sp) {
    (void)sp;
    i64 ppid = sys0(NR_getppid), bad = 0;
    for (int i = 0; i < 200000; i++)
        bad += sys0(NR_getppid) != ppid;
    put_num("wrong", bad);
    u64 count = 0;
    __asm__ volatile("mov $1000,%%r15\n1: mov $110,%%eax\n syscall\n inc %0\n dec %%r15\n jnz 1b"
                     : "+r"(count) : : "rax", "rcx", "r11", "r15", "memory");
    put_num("count", (i64)count);
    quit(0);
}
