// modes: bare
// Signals at high rate while every kind of call is made: registers that a call keeps are kept.
#include "../bare.h"

static volatile u64 hits;
static void on_alarm(int s, void *i, void *uc) {
    (void)s, (void)i, (void)uc;
    hits++;
    sys0(NR_getpid);
}
u64 rounds(u64 n, i64 nr);
__asm__("rounds: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rdi,%rbx\n mov %rsi,%rbp\n mov $0x1212,%r12\n mov $0x1313,%r13\n mov $0x1414,%r14\n xor %r15d,%r15d\n"
        "1: mov %rbp,%rax\n mov $-1,%rdi\n mov $0x5151,%rsi\n mov $0x5252,%rdx\n mov $0x5353,%r10\n mov $0x5454,%r8\n mov $0x5555,%r9\n"
        "syscall\n"
        "cmp $-1,%rdi\n jne 2f\n cmp $0x5151,%rsi\n jne 2f\n cmp $0x5252,%rdx\n jne 2f\n cmp $0x5353,%r10\n jne 2f\n"
        "cmp $0x5454,%r8\n jne 2f\n cmp $0x5555,%r9\n jne 2f\n cmp $0x1212,%r12\n jne 2f\n cmp $0x1313,%r13\n jne 2f\n cmp $0x1414,%r14\n jne 2f\n"
        "jmp 3f\n2: inc %r15\n3: dec %rbx\n jnz 1b\n mov %r15,%rax\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");

static void main_(u64 *sp) {
    (void)sp;
    on_signal(14, on_alarm, 0x10000000);
    struct { i64 is, iu, vs, vu; } it = {0, 300, 0, 300};
    sys3(38, 0, &it, 0);
    static const i64 calls[] = {NR_getpid, NR_close, NR_sched_yield, 1000, 33};
    u64 bad = 0;
    for (int k = 0; k < 3 || hits < 20; k++)
        for (u64 c = 0; c < sizeof calls / sizeof *calls; c++)
            bad += rounds(3000, calls[c]);
    it.iu = it.vu = 0;
    sys3(38, 0, &it, 0);
    put_num("rounds with a changed register", (i64)bad);
    quit(0);
}
