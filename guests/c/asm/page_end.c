// modes: bare
// Sites at the end of a page: code goes on behind it, or nothing does and the next fetch faults there.
#include "../bare.h"

u64 resume;
static volatile u64 fault_rip, fault_addr;
static void on_segv(int s, void *info, void *uc) {
    (void)s;
    u64 *r = uc_regs(uc);
    fault_rip = r[RIP];
    fault_addr = *(u64 *)((char *)info + 16);
    r[RIP] = resume;
}

static void main_(u64 *sp) {
    (void)sp;
    i64 pid = sys0(NR_getpid);
    unsigned char *m = (void *)sys6(NR_mmap, 0, 3 * 4096, 3, 0x22, -1, 0);
    static const unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3}; /* mov $39,%eax; syscall; ret */
    memcpy(m + 4096 - 7, code, sizeof code); /* syscall ends the page, ret begins the next */
    memcpy(m + 8192 - 6, code, sizeof code); /* the syscall itself lies across two pages */
    memcpy(m + 12288 - 7, code, 7);          /* the end of the mapping */
    check("mprotect", sys3(NR_mprotect, m, 3 * 4096, 5) == 0);
    i64 (*ends)(void) = (void *)(m + 4096 - 7), (*across)(void) = (void *)(m + 8192 - 6);
    int good = 1;
    for (int i = 0; i < 100; i++)
        good &= ends() == pid && across() == pid;
    check("at and across a page's end", good);
    check("sigaction", on_signal(11, on_segv, 0) == 0);
    for (int i = 0; i < 3; i++) {
        i64 rax;
        __asm__ volatile("lea 1f(%%rip),%%rdx\n mov %%rdx,resume(%%rip)\n sub $256,%%rsp\n jmp *%1\n1: add $256,%%rsp"
                         : "=a"(rax) : "b"(m + 12288 - 7) : "rcx", "rdx", "r11", "memory");
        check("the call was made", rax == pid);
        check("then the fetch behind it faults", fault_rip == (u64)m + 12288 && fault_addr == fault_rip);
    }
    quit(0);
}
