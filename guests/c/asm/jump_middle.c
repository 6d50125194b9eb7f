// modes: bare
// Control enters a site at the load of the number, at the syscall itself, and right behind it.
#include "../bare.h"

i64 whole(void), at_syscall(i64 n), behind(i64 v);
__asm__(".p2align 4\n"
        "whole: mov $39,%eax\n"
        "mid: syscall\n"
        "after: add $1,%rax\n ret\n"
        ".p2align 4\n"
        "at_syscall: mov %rdi,%rax\n jmp mid\n"
        "behind: mov %rdi,%rax\n jmp after\n");

static void main_(u64 *sp) {
    (void)sp;
    i64 pid = sys0(NR_getpid), ppid = sys0(NR_getppid);
    int good = 1;
    for (int i = 0; i < 100; i++) {
        good &= whole() == pid + 1;
        good &= at_syscall(NR_getppid) == ppid + 1;
        good &= behind(41) == 42;
        good &= at_syscall(NR_getpid) == pid + 1;
    }
    check("every entry into the site", good);
    i64 (*volatile indirect)(i64) = behind; /* and by pointers that no scan sees */
    check("through a pointer", indirect(1) == 2);
    u64 mid;
    __asm__("lea mid(%%rip),%0" : "=r"(mid));
    i64 r;
    __asm__ volatile("push %%rdx\n lea 1f(%%rip),%%rcx\n push %%rcx\n jmp *%%rdx\n1: pop %%rdx"
                     : "=a"(r) : "a"(NR_getppid), "d"(mid) : "rcx", "r11", "memory");
    check("computed jump to the syscall", r == ppid + 1);
    quit(0);
}
