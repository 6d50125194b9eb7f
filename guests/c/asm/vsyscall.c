// modes: bare
// The old vsyscall page: time, gettimeofday and getcpu at their fixed addresses, reads of it fault, wild jumps too.
#include "../bare.h"

u64 resume;
static volatile u64 faulted;
static void on_segv(int s, void *info, void *uc) {
    (void)s, (void)info;
    faulted++;
    uc_regs(uc)[RIP] = resume;
}
#define GUARDED(code, ...) __asm__ volatile("lea 1f(%%rip),%%r9\n mov %%r9,resume(%%rip)\n" code "\n1:" __VA_ARGS__)

static void main_(u64 *sp) {
    (void)sp;
    i64 (*vtime)(i64 *) = (void *)0xffffffffff600400, (*vtod)(i64 *, void *) = (void *)0xffffffffff600000;
    i64 (*vcpu)(unsigned *, unsigned *, void *) = (void *)0xffffffffff600800;
    on_signal(11, on_segv, 0);
    i64 now = sys1(NR_time, 0), t = 0, tv[2] = {0};
    i64 v = vtime(&t);
    check("time", v - now >= 0 && v - now < 5 && t == v);
    check("gettimeofday", vtod(tv, 0) == 0 && tv[0] - now >= 0 && tv[0] - now < 5 && tv[1] >= 0 && tv[1] < 1000000);
    unsigned cpu = 1u << 30;
    check("getcpu", vcpu(&cpu, 0, 0) == 0 && cpu < 4096);
    GUARDED("call *%%rax", : : "a"(0xffffffffff600123) : "r9", "rcx", "r11", "memory");
    put_num("a wild call faults", (i64)faulted);
    __asm__ volatile("" ::: "memory");
    quit(0);
}
