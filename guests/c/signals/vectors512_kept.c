// modes: static dynamic
// needs: avx512f
// zmm16-31 and mask registers survive signals whose handlers clobber them.
#include "../common.h"

static volatile sig_atomic_t hits;
static void handler(int s) {
    (void)s;
    hits++;
    __asm__ volatile("vpternlogd $0xff,%%zmm16,%%zmm16,%%zmm16\n vmovdqa64 %%zmm16,%%zmm0\n vmovdqa64 %%zmm16,%%zmm31\n kxnorw %%k1,%%k1,%%k1\n kxnorw %%k7,%%k7,%%k7"
                     ::: "xmm0", "memory");
}
unsigned char in[17 * 64], out[17 * 64];
unsigned long kin[2] = {0x1234, 0x5678}, kout[2];
void over(long nr, long a, long b, long c);
#define EACH(op) op(0) op(16) op(17) op(20) op(25) op(30) op(31)
#define LOAD(i) "vmovdqu64 in+32*" #i "(%rip),%zmm" #i "\n"
#define STORE(i) "vmovdqu64 %zmm" #i ",out+32*" #i "(%rip)\n"
__asm__(".text\nover: mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n mov %rcx,%rdx\n" EACH(LOAD)
        "kmovw kin(%rip),%k1\n kmovw kin+8(%rip),%k7\n syscall\n kmovw %k1,kout(%rip)\n kmovw %k7,kout+8(%rip)\n" EACH(STORE) "vzeroupper\n ret\n");

int main(void) {
    struct sigaction a = {.sa_handler = handler};
    sigaction(SIGUSR1, &a, NULL);
    long bad = 0, kbad = 0;
    for (int round = 0; round < 30; round++) {
        for (unsigned i = 0; i < sizeof in; i++)
            in[i] = (unsigned char)(i * 5 + (unsigned)round * 3 + 1);
        memcpy(out, in, sizeof in);
        over(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
        for (unsigned i = 0; i < sizeof in; i++)
            bad += in[i] != out[i];
        kbad += (kout[0] & 0xffff) != 0x1234 || (kout[1] & 0xffff) != 0x5678;
    }
    printf("%d signals, %ld bytes and %ld masks changed\n", (int)hits, bad, kbad);
    common_failed |= bad || kbad;
    return done();
}
