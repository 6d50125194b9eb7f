// modes: bare
// The forms in which a syscall meets its neighbours; each site is used twice and a thousand times.
#include "../bare.h"

/* musl's shape: nothing relocatable before, ret and padding after */
i64 form_ret(i64 n);
__asm__(".p2align 4\nform_ret: mov %rdi,%rax\n jmp 1f\n nop\n1: syscall\n ret\n nopl 0(%rax)\n");
/* glibc's shape: number loaded before, compare after */
i64 form_cmp(void);
__asm__(".p2align 4\nform_cmp: mov $39,%eax\n syscall\n cmp $-4095,%rax\n jae 1f\n ret\n1: xor %eax,%eax\n ret\n");
/* only the predecessor can move: a jump target right behind */
i64 form_pred(void);
__asm__(".p2align 4\nform_pred: xor %edx,%edx\n jmp 2f\n1: ret\n2: mov $39,%eax\n syscall\n3: inc %edx\n cmp $3,%edx\n je 1b\n jmp 3b\n");
/* followed by a conditional jump and by a call */
i64 form_jcc(void), form_call(void);
__asm__(".p2align 4\nform_jcc: mov $39,%eax\n test %eax,%eax\n syscall\n jns 1f\n ud2\n1: ret\n"
        ".p2align 4\nform_call: sub $8,%rsp\n mov $39,%eax\n syscall\n call 1f\n add $8,%rsp\n ret\n1: ret\n");
/* rip-relative follower, a follower that uses rcx, and a push */
i64 form_rip(void), form_push(void);
u64 cell;
__asm__(".p2align 4\nform_rip: mov $39,%eax\n syscall\n mov %rax,cell(%rip)\n mov cell(%rip),%rax\n ret\n"
        ".p2align 4\nform_push: mov $39,%eax\n syscall\n push %rbx\n mov %rax,%rbx\n mov %rbx,%rax\n pop %rbx\n ret\n");
/* three in a row: a result, here an error, is the next one's number */
i64 form_three(void);
__asm__(".p2align 4\nform_three: mov $-1,%edi\n mov $3,%eax\n syscall\n syscall\n syscall\n ret\n");
/* a function starts right behind the ret, with no padding */
i64 form_tight(void), neighbour(void);
__asm__("form_tight: mov $39,%eax\n syscall\n ret\nneighbour: lea 5(,%rax,2),%rax\n ret\n");
/* a REX prefix that says nothing */
i64 form_rex(void);
__asm__(".p2align 4\nform_rex: mov $39,%eax\n .byte 0x48,0x0f,0x05\n ret\n nop\n nop\n nop\n");
/* the syscall is itself a loop's head */
i64 form_head(void);
__asm__(".p2align 4\nform_head: push %rbx\n mov $5,%ebx\n mov $39,%eax\n1: syscall\n mov %rax,%rdx\n mov $39,%eax\n dec %ebx\n jnz 1b\n mov %rdx,%rax\n pop %rbx\n ret\n");

static void try(const char *what, i64 (*f)(void), i64 want) {
    int good = 1;
    for (int i = 0; i < 1000; i++)
        good &= f() == want;
    check(what, good);
}

static void main_(u64 *sp) {
    (void)sp;
    i64 pid = sys0(NR_getpid);
    int good = 1;
    for (int i = 0; i < 1000; i++)
        good &= form_ret(NR_getpid) == pid;
    check("syscall; ret", good);
    try("mov; syscall; cmp", form_cmp, pid);
    try("target behind", form_pred, pid);
    try("syscall; jcc", form_jcc, pid);
    try("syscall; call", form_call, pid);
    try("rip-relative follower", form_rip, pid);
    try("syscall; push", form_push, pid);
    try("tight", form_tight, pid);
    i64 n = 10, r;
    __asm__ volatile("call neighbour" : "=a"(r) : "a"(n) : "memory");
    check("the neighbour is intact", r == 25);
    try("rex syscall", form_rex, pid);
    try("loop head", form_head, pid);
    try("three in a row", form_three, -38);
    quit(0);
}
