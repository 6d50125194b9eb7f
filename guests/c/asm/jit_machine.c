// Instructions that show the machine or the moment, in code written at run time: what they answer fits what the same
// instruction answers in the program's text. Saving of extended state: what is stored, and how it fails.
#define _GNU_SOURCE
#include "../common.h"
#include <cpuid.h>
#include <sched.h>
#include <setjmp.h>
#include <ucontext.h>
#include <x86intrin.h>

typedef void (*cpuid_fn)(unsigned *regs);
typedef uint64_t (*tsc_fn)(void);

static bool passes = true;

static void check(const char *what, bool good) {
    printf("%s: %s\n", what, good ? "ok" : "FAIL");
    passes &= good;
}

/* push rbx; mov r8, rdi; mov eax, [r8]; mov ecx, [r8+8]; cpuid; store eax, ebx, ecx, edx; pop rbx; ret */
static const unsigned char cpuid_code[] = {0x53, 0x49, 0x89, 0xf8, 0x41, 0x8b, 0x00, 0x41, 0x8b, 0x48, 0x08, 0x0f, 0xa2,
    0x41, 0x89, 0x00, 0x41, 0x89, 0x58, 0x04, 0x41, 0x89, 0x48, 0x08, 0x41, 0x89, 0x50, 0x0c, 0x5b, 0xc3};
/* rdtsc; shl rdx, 32; or rax, rdx; ret */
static const unsigned char tsc_code[] = {0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0xc3};

static bool same_as_text(cpuid_fn f, unsigned leaf) {
    unsigned r[4] = {leaf, 0, 0, 0}, t[4];
    f(r);
    __cpuid_count(leaf, 0, t[0], t[1], t[2], t[3]);
    return !memcmp(r, t, sizeof r);
}

static bool in_order(tsc_fn f) {
    uint64_t a = __rdtsc(), b = f(), c = __rdtsc(), d = f();
    return a <= b && b <= c && c <= d;
}

static sigjmp_buf back;
static siginfo_t seen;

static void on_segv(int sig, siginfo_t *info, void *uc) {
    (void)sig;
    (void)uc;
    seen = *info;
    siglongjmp(back, 1);
}

static unsigned char area[4096] __attribute__((aligned(64)));

static void xsave_to(void *to) {
    register uint32_t low asm("eax") = 2, high asm("edx") = 0;
    asm volatile("xsave (%0)" : : "r"(to), "r"(low), "r"(high) : "memory");
}

static void save_state(void) {
    unsigned a, b, c, d;
    __cpuid(1, a, b, c, d);
    if (!(c & bit_OSXSAVE)) {
        check("xmm in the area", true);
        check("bits that were not asked for", true);
        check("misaligned", true);
        check("unmapped", true);
        return;
    }
    memset(area, 0x55, sizeof area);
    memset(area + 512, 0, 64);
    area[512] = 5;
    register uint32_t low asm("eax") = 2, high asm("edx") = 0;
    asm volatile("mov $0x1234567, %%ecx\n\tmovd %%ecx, %%xmm7\n\txsave (%0)"
                 : : "r"(area), "r"(low), "r"(high) : "memory", "rcx", "xmm7");
    uint32_t xmm7;
    memcpy(&xmm7, area + 160 + 7 * 16, 4);
    check("xmm in the area", xmm7 == 0x1234567 && (area[512] & 2));
    check("bits that were not asked for", (area[512] & 5) == 5 && area[600] == 0x55 && area[0] == 0x55);
    struct sigaction sa = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &sa, NULL);
    if (!sigsetjmp(back, 1)) {
        xsave_to(area + 8);
        check("misaligned", false);
    } else {
        check("misaligned", seen.si_signo == SIGSEGV && seen.si_code == SI_KERNEL && !seen.si_addr);
    }
    char *hole = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(hole, 4096);
    if (!sigsetjmp(back, 1)) {
        xsave_to(hole);
        check("unmapped", false);
    } else {
        check("unmapped", seen.si_signo == SIGSEGV && seen.si_code == SEGV_MAPERR && (char *)seen.si_addr >= hole
            && (char *)seen.si_addr < hole + 4096);
    }
}

int main(void) {
    /* One CPU: leaf 1 names it. */
    cpu_set_t one;
    int cpu = sched_getcpu();
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);

    unsigned char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(m, 0xcc, 8192);
    memcpy(m + 100, cpuid_code, sizeof cpuid_code);
    memcpy(m + 4090, tsc_code, sizeof tsc_code); /* across two pages */
    bool good = true;
    for (unsigned leaf = 0; leaf < 2; leaf++)
        for (int i = 0; i < 3; i++)
            good &= same_as_text((cpuid_fn)(void *)(m + 100), leaf);
    check("cpuid, writable text", good);
    check("rdtsc, writable text, across pages", in_order((tsc_fn)(void *)(m + 4090)));

    unsigned char *w = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    good = true;
    for (int i = 0; i < 3; i++) {
        mprotect(w, 8192, PROT_READ | PROT_WRITE);
        memset(w, 0xc3, 8192);
        memcpy(w + i * 40, cpuid_code, sizeof cpuid_code);
        memcpy(w + 4096 + i, tsc_code, sizeof tsc_code);
        mprotect(w, 8192, PROT_READ | PROT_EXEC);
        good &= same_as_text((cpuid_fn)(void *)(w + i * 40), 1) && in_order((tsc_fn)(void *)(w + 4096 + i));
    }
    check("both, written between mprotects", good);

    unsigned char *moved = mremap(w, 8192, 8192, MREMAP_MAYMOVE | MREMAP_FIXED, m);
    check("both, moved", moved == m && same_as_text((cpuid_fn)(void *)(m + 80), 1) && in_order((tsc_fn)(void *)(m + 4098)));
    save_state();
    return !passes;
}
