// modes: bare
// A thread by clone; it unmaps the stack it stands on and leaves, and the kernel clears its word and wakes the waiter.
#include "../bare.h"

volatile unsigned tid_word, ran;
static volatile u64 parent_tid, tls_area[4] = {0x77};

static void main_(u64 *sp) {
    (void)sp;
    for (int i = 0; i < 50; i++) {
        char *stack = (void *)sys6(NR_mmap, 0, 65536, 3, 0x22, -1, 0);
        tid_word = 1;
        i64 r;
        register i64 r10 __asm__("r10") = (i64)&tid_word;
        register i64 r8 __asm__("r8") = (i64)tls_area;
        /* VM FS FILES SIGHAND THREAD SYSVSEM SETTLS PARENT_SETTID CHILD_CLEARTID */
        __asm__ volatile("syscall\n test %%eax,%%eax\n jnz 1f\n"
                         "mov %%fs:0,%%rax\n cmp $0x77,%%rax\n jne 2f\n lock incl ran(%%rip)\n2:\n"
                         "mov %%rbx,%%rdi\n mov $65536,%%esi\n mov $11,%%eax\n syscall\n"
                         "xor %%edi,%%edi\n mov $60,%%eax\n syscall\n ud2\n1:"
                         : "=a"(r) : "a"(NR_clone), "D"(0x3d0f00), "S"(stack + 65536), "d"(&parent_tid), "r"(r10), "r"(r8), "b"(stack)
                         : "rcx", "r11", "memory");
        if (r <= 0 || parent_tid != (u64)r)
            check("clone", 0);
        while (tid_word) {
            unsigned seen = tid_word;
            if (seen)
                sys6(NR_futex, (i64)&tid_word, 0, seen, 0, 0, 0);
        }
    }
    put_num("threads that ran", ran);
    quit(0);
}
