// modes: static dynamic
// needs: avx2
// ymm registers survive signals: by kill, by timers in the middle of computing, by faults; the handler clobbers them all.
#include "../common.h"
#include <setjmp.h>

static volatile sig_atomic_t hits;
static char *page;
static void handler(int s) {
    hits++;
    __asm__ volatile("vpcmpeqd %%ymm0,%%ymm0,%%ymm0\n vmovdqa %%ymm0,%%ymm1\n vmovdqa %%ymm0,%%ymm2\n vmovdqa %%ymm0,%%ymm3\n"
                     "vmovdqa %%ymm0,%%ymm4\n vmovdqa %%ymm0,%%ymm5\n vmovdqa %%ymm0,%%ymm6\n vmovdqa %%ymm0,%%ymm7\n"
                     "vmovdqa %%ymm0,%%ymm8\n vmovdqa %%ymm0,%%ymm15\n" ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm15");
    if (s == SIGSEGV)
        mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

/* Loads ymm0-15 from in, does what kind says, stores them to out. */
unsigned char in[16 * 32], out[16 * 32];
volatile int stop_spin;
void over(long kind, long a, long b, long c);
#define EACH(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define LOAD(i) "vmovdqu in+32*" #i "(%rip),%ymm" #i "\n"
#define STORE(i) "vmovdqu %ymm" #i ",out+32*" #i "(%rip)\n"
__asm__(".text\nover: mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n mov %rcx,%rdx\n mov %rax,%r8\n" EACH(LOAD)
        "cmp $-1,%r8\n je 1f\n cmp $-2,%r8\n je 2f\n syscall\n jmp 3f\n"
        "1: movb $1,(%rdi)\n jmp 3f\n"
        "2: mov (%rdi),%eax\n cmp %eax,%esi\n jne 3f\n pause\n jmp 2b\n"
        "3:" EACH(STORE) "vzeroupper\n ret\n");

int main(void) {
    struct sigaction a = {.sa_handler = handler};
    sigaction(SIGUSR1, &a, NULL);
    sigaction(SIGALRM, &a, NULL);
    sigaction(SIGSEGV, &a, NULL);
    page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long pid = getpid(), tid = syscall(SYS_gettid);
    const char *names[] = {"tgkill", "fault", "timer"};
    for (int k = 0; k < 3; k++) {
        long bad = 0;
        hits = 0;
        for (int round = 0; round < 30; round++) {
            for (unsigned i = 0; i < sizeof in; i++)
                in[i] = (unsigned char)(i * 5 + (unsigned)round * 3 + 1);
            if (k == 0)
                over(SYS_tgkill, pid, tid, SIGUSR1);
            if (k == 1) {
                mprotect(page, 4096, PROT_READ);
                over(-1, (long)page, 0, 0);
            }
            if (k == 2) {
                struct itimerval it = {{0, 500}, {0, 300}}, off = {{0, 0}, {0, 0}}; /* again, should one come too early */
                setitimer(ITIMER_REAL, &it, NULL);
                over(-2, (long)&hits, hits, 0);
                setitimer(ITIMER_REAL, &off, NULL);
            }
            for (unsigned i = 0; i < sizeof in; i++)
                bad += in[i] != out[i];
        }
        printf("%s: enough signals %d, %ld bytes changed\n", names[k], hits >= 30, bad);
        common_failed |= bad != 0;
    }
    return done();
}
