// modes: bare
// Instructions that fault: signal number, code and address, and going on behind them.
#include "../bare.h"

u64 resume; /* named by the asm below */
static u64 sig, code, addr, rip;
static void on_any(int s, void *info, void *uc) {
    sig = (u64)s;
    code = ((unsigned *)info)[2];
    addr = ((u64 *)info)[2];
    rip = uc_regs(uc)[RIP];
    uc_regs(uc)[RIP] = resume;
}
#define FAULT(what, code_, ...)                                                                                        \
    do {                                                                                                               \
        u64 at;                                                                                                        \
        sig = 0;                                                                                                       \
        __asm__ volatile("lea 2f(%%rip),%%r9\n mov %%r9,resume(%%rip)\n lea 1f(%%rip),%%r9\n1: " code_ "\n2: nop"     \
                         : "=&r"(at) : __VA_ARGS__ : "r9", "r10", "rcx", "r11", "memory");                           \
        __asm__ volatile("mov %%r9,%0" : "=r"(at));                                                                    \
        puts_(what);                                                                                                   \
        put_num(" signal", (i64)sig);                                                                                  \
        put_num("  code", (i64)(int)code);                                                                             \
    } while (0)

static void main_(u64 *sp) {
    (void)sp;
    for (int s = 4; s <= 11; s++)
        if (s != 9 && s != 10)
            on_signal(s, on_any, 0);
    FAULT("ud2", "ud2", "a"(0));
    check("rip is the instruction, address too", rip == addr);
    FAULT("int3", "int3", "a"(0));
    check("rip is behind int3", rip == resume);
    FAULT("hlt", "hlt", "a"(0));
    put_num("  address", (i64)addr);
    FAULT("in", "inb $0x60,%%al", "a"(0));
    FAULT("divide by zero", "xor %%ecx,%%ecx\n div %%ecx", "a"(1), "d"(0));
    FAULT("read null", "mov (%%rax),%%r10", "a"(0));
    put_num("  address", (i64)addr);
    FAULT("read 0x1234", "mov (%%rax),%%r10", "a"(0x1234));
    put_num("  address", (i64)addr);
    FAULT("not canonical", "mov (%%rax),%%r10", "a"(0x8000000000000000));
    put_num("  address", (i64)addr);
    FAULT("kernel half", "mov (%%rax),%%r10", "a"(0xffff888000000000));
    FAULT("write to text", "movb $0,1b(%%rip)", "a"(0));
    FAULT("privileged cr3", "mov %%cr3,%%r10", "a"(0));
    FAULT("int 5", "int $5", "a"(0));
    FAULT("misaligned movaps", "movaps 1(%%rsp),%%xmm0", "a"(0));
    quit(0);
}
