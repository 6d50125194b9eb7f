// modes: bare
// A system call changes rax, rcx and r11 and nothing else; rcx is the next rip and r11 the flags.
#include "../bare.h"

struct block { u64 rbx, rdx, rsi, rdi, rbp, r8, r9, r10, r12, r13, r14, r15, rax, rcx, r11, next; };
void probe(i64 n, struct block *out);
__asm__("probe: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rsi\n"
        "mov %rdi,%rax\n mov $0x1111111111111111,%rbx\n mov $0x2222222222222222,%rdx\n mov $0x3333333333333333,%rsi\n"
        "mov $0x4444444444444444,%rdi\n mov $0x5555555555555555,%rbp\n mov $0x6666666666666666,%r8\n"
        "mov $0x7777777777777777,%r9\n mov $0x8888888888888888,%r10\n mov $0x9999999999999999,%r12\n"
        "mov $0xaaaaaaaaaaaaaaaa,%r13\n mov $0xbbbbbbbbbbbbbbbb,%r14\n mov $0xcccccccccccccccc,%r15\n"
        "xor %ecx,%ecx\n xor %r11d,%r11d\n stc\n"
        "syscall\n"
        "next: push %rax\n mov 8(%rsp),%rax\n"
        "mov %rbx,(%rax); mov %rdx,8(%rax); mov %rsi,16(%rax); mov %rdi,24(%rax); mov %rbp,32(%rax)\n"
        "mov %r8,40(%rax); mov %r9,48(%rax); mov %r10,56(%rax); mov %r12,64(%rax); mov %r13,72(%rax)\n"
        "mov %r14,80(%rax); mov %r15,88(%rax); mov %rcx,104(%rax); mov %r11,112(%rax)\n"
        "pop %rcx\n mov %rcx,96(%rax)\n lea next(%rip),%rcx\n mov %rcx,120(%rax)\n"
        "pop %rsi; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");

static void main_(u64 *sp) {
    (void)sp;
    static const i64 calls[] = {NR_getpid, NR_sched_yield, 1000, NR_close, NR_write, NR_futex};
    for (u64 i = 0; i < sizeof calls / sizeof *calls; i++)
        for (int k = 0; k < 3; k++) {
            struct block b;
            probe(calls[i], &b);
            const u64 one = 0x1111111111111111;
            int kept = b.rbx == one && b.rdx == 2 * one && b.rsi == 3 * one && b.rdi == 4 * one && b.rbp == 5 * one &&
                       b.r8 == 6 * one && b.r9 == 7 * one && b.r10 == 8 * one && b.r12 == 9 * one && b.r13 == 10 * one &&
                       b.r14 == 11 * one && b.r15 == 12 * one;
            check("registers are kept", kept);
            check("rcx is the next instruction", b.rcx == b.next);
            check("r11 has the flags: carry, parity, zero, interrupts", (b.r11 & 0xad5) == 0x245);
            if (calls[i] != NR_getpid)
                put_num("rax", (i64)b.rax);
        }
    quit(0);
}
