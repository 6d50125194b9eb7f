// modes: bare
// fork, vfork and clone as raw calls: who returns what, memory apart or together, the child's stack as given.
#include "../bare.h"

volatile u64 shared;
static i64 wait_for(i64 pid) {
    int st = 0;
    return sys4(NR_wait4, pid, &st, 0, 0) == pid ? st : -1;
}

static void main_(u64 *sp) {
    (void)sp;
    i64 pid = sys0(NR_fork);
    if (pid == 0) {
        shared = 1;
        sys1(NR_exit_group, sys0(NR_getppid) != 0 ? 5 : 6);
    }
    put_num("fork child", wait_for(pid));
    put_num("memory is apart", (i64)shared);
    i64 r;
    __asm__ volatile("mov $58,%%eax\n syscall\n test %%eax,%%eax\n jnz 1f\n movq $7,shared(%%rip)\n mov $3,%%edi\n mov $60,%%eax\n syscall\n1:"
                     : "=a"(r) : : "rcx", "r11", "rdi", "memory");
    put_num("vfork wrote", (i64)shared);
    put_num("vfork child", wait_for(r));
    static u64 stack[1024];
    u64 *top = stack + 1000;
    top[0] = 99;
    __asm__ volatile("syscall\n test %%eax,%%eax\n jnz 1f\n mov (%%rsp),%%rdi\n mov %%rdi,shared(%%rip)\n mov $4,%%edi\n mov $60,%%eax\n syscall\n1:"
                     : "=a"(r) : "a"(NR_clone), "D"(0x100 | 17), "S"(top), "d"(0) : "rcx", "r11", "r10", "r8", "memory");
    put_num("clone with CLONE_VM", wait_for(r));
    put_num("its stack held", (i64)shared);
    put_num("no child left", sys4(NR_wait4, -1, 0, 0, 0));
    put_num("clone of a bad combination", sys6(NR_clone, 0x10000, 0, 0, 0, 0, 0));
    quit(0);
}
