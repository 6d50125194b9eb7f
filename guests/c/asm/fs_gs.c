// modes: bare
// The fs and gs bases by arch_prctl and, where the auxiliary vector allows it, by instruction; both survive calls.
#include "../bare.h"

static u64 area[64];
static u64 read_fs(void) { u64 v; __asm__ volatile("mov %%fs:0,%0" : "=r"(v)); return v; }
static u64 read_gs(void) { u64 v; __asm__ volatile("mov %%gs:8,%0" : "=r"(v)); return v; }

static void main_(u64 *sp) {
    u64 *p = sp + sp[0] + 2, hwcap2 = 0, got = 1;
    while (*p)
        p++;
    for (p++; p[0]; p += 2)
        if (p[0] == 26)
            hwcap2 = p[1];
    check("fs is zero at first", sys2(NR_arch_prctl, 0x1003, &got) == 0 && got == 0);
    area[0] = 111;
    area[1] = 222;
    area[32] = 333;
    area[33] = 444;
    check("set fs", sys2(NR_arch_prctl, 0x1002, area) == 0);
    check("read through fs", read_fs() == 111);
    check("set gs", sys2(NR_arch_prctl, 0x1001, area) == 0);
    check("read through gs", read_gs() == 222);
    for (int i = 0; i < 100; i++)
        sys0(NR_sched_yield);
    check("kept", read_fs() == 111 && read_gs() == 222);
    check("get fs", sys2(NR_arch_prctl, 0x1003, &got) == 0 && got == (u64)area);
    check("get gs", sys2(NR_arch_prctl, 0x1004, &got) == 0 && got == (u64)area);
    put_num("not canonical", sys2(NR_arch_prctl, 0x1002, 0x8000000000000000));
    put_num("get to nowhere", sys2(NR_arch_prctl, 0x1003, 8));
    put_num("unknown code", sys2(NR_arch_prctl, 0x9999, 0));
    check("still there", read_fs() == 111);
    if (hwcap2 & 2) {
        __asm__ volatile("wrfsbase %0\n wrgsbase %1" : : "r"(area + 32), "r"(area + 32));
        for (int i = 0; i < 10; i++)
            sys0(NR_getpid);
        u64 fs;
        __asm__ volatile("rdfsbase %0" : "=r"(fs));
        check("by instruction", fs == (u64)(area + 32) && read_fs() == 333 && read_gs() == 444);
    } else
        check("by instruction", 1);
    quit(0);
}
