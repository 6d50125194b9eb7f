// modes: bare
// int 0x80 may answer as i386 Linux does (20 is getpid), fail with ENOSYS, or raise SIGSEGV. What it must never do is
// to run as a 64-bit number: 20 would be writev. The output is the same for the three accepted outcomes.
#include "../bare.h"

u64 resume;
static u64 faulted;
static void on_segv(int s, void *info, void *uc) {
    (void)s, (void)info;
    faulted = 1;
    uc_regs(uc)[RIP] = resume;
}

static void main_(u64 *sp) {
    (void)sp;
    static const char wrong[] = "run as a 64-bit call\n";
    struct { const char *p; u64 n; } iov = {wrong, sizeof wrong - 1};
    on_signal(11, on_segv, 0);
    i64 pid = sys0(NR_getpid), r;
    for (int i = 0; i < 3; i++) {
        faulted = 0;
        __asm__ volatile("lea 1f(%%rip),%%r9\n mov %%r9,resume(%%rip)\n int $0x80\n1:"
                         : "=a"(r) : "a"(20), "D"(1), "S"(&iov), "d"(1), "b"(0), "c"(0) : "r8", "r9", "r10", "r11", "memory");
        check("getpid, ENOSYS or SIGSEGV", faulted || r == pid || r == -38);
    }
    check("and life goes on", sys0(NR_getpid) == pid);
    quit(0);
}
