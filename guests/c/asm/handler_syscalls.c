// modes: bare
// A handler that makes the very call it interrupted, at the same site, nested three deep, and one that changes rax.
#include "../bare.h"

static volatile u64 depth, deepest;
static i64 pid, tid;
static void on_usr1(int s, void *i, void *uc) {
    (void)i;
    if (++depth > deepest)
        deepest = depth;
    if (depth < 3)
        sys3(NR_tgkill, pid, tid, s);
    depth--;
    (void)uc;
}
static void on_usr2(int s, void *i, void *uc) {
    (void)s, (void)i;
    uc_regs(uc)[RAX] = 4321;
    uc_regs(uc)[RBX] = 1234;
}

static void main_(u64 *sp) {
    (void)sp;
    pid = sys0(NR_getpid);
    tid = sys0(NR_gettid);
    on_signal(10, on_usr1, 0x40000000);
    on_signal(12, on_usr2, 0);
    for (int i = 0; i < 10; i++)
        sys3(NR_tgkill, pid, tid, 10);
    put_num("deepest", (i64)deepest);
    i64 rax, rbx = 1;
    __asm__ volatile("syscall" : "=a"(rax), "+b"(rbx) : "a"(NR_tgkill), "D"(pid), "S"(tid), "d"(12) : "rcx", "r11", "memory");
    put_num("rax", rax);
    put_num("rbx", rbx);
    check("the world is whole", sys0(NR_getpid) == pid);
    quit(0);
}
