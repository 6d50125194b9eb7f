/* For freestanding programs (-nostdlib): raw system calls, exit and printing with no libc at all. */
#ifndef FTL_BARE_H
#define FTL_BARE_H
typedef unsigned long u64;
typedef long i64;

static inline i64 sys6(i64 n, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f) {
    i64 ret;
    register i64 r10 __asm__("r10") = d;
    register i64 r8 __asm__("r8") = e;
    register i64 r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#define sys0(n) sys6(n, 0, 0, 0, 0, 0, 0)
#define sys1(n, a) sys6(n, (i64)(a), 0, 0, 0, 0, 0)
#define sys2(n, a, b) sys6(n, (i64)(a), (i64)(b), 0, 0, 0, 0)
#define sys3(n, a, b, c) sys6(n, (i64)(a), (i64)(b), (i64)(c), 0, 0, 0)
#define sys4(n, a, b, c, d) sys6(n, (i64)(a), (i64)(b), (i64)(c), (i64)(d), 0, 0)

enum {
    NR_read = 0, NR_write = 1, NR_close = 3, NR_mmap = 9, NR_mprotect = 10, NR_munmap = 11, NR_brk = 12,
    NR_rt_sigaction = 13, NR_rt_sigprocmask = 14, NR_rt_sigreturn = 15, NR_sched_yield = 24, NR_getpid = 39,
    NR_clone = 56, NR_fork = 57, NR_vfork = 58, NR_execve = 59, NR_exit = 60, NR_wait4 = 61, NR_kill = 62, NR_uname = 63,
    NR_getppid = 110, NR_sigaltstack = 131, NR_arch_prctl = 158, NR_gettid = 186, NR_time = 201, NR_futex = 202,
    NR_set_tid_address = 218, NR_clock_gettime = 228, NR_exit_group = 231, NR_tgkill = 234,
};

void *memset(void *p, int c, u64 n) {
    unsigned char *q = p;
    for (u64 i = 0; i < n; i++) {
        q[i] = (unsigned char)c;
        __asm__ volatile("" ::: "memory"); /* keep this from becoming a call of memset */
    }
    return p;
}
void *memcpy(void *d, const void *s, u64 n) {
    for (u64 i = 0; i < n; i++) {
        ((unsigned char *)d)[i] = ((const unsigned char *)s)[i];
        __asm__ volatile("" ::: "memory");
    }
    return d;
}

static u64 str_len(const char *s) {
    u64 n = 0;
    while (s[n])
        n++;
    return n;
}
static inline void puts_(const char *s) { sys3(NR_write, 1, s, str_len(s)); }

static inline void put_num(const char *label, i64 v) {
    char b[96], d[24];
    u64 n = 0, k = 0;
    while (label[n] && n < 60) {
        b[n] = label[n];
        n++;
    }
    b[n++] = '=';
    if (v < 0)
        b[n++] = '-';
    u64 x = v < 0 ? -(u64)v : (u64)v;
    do
        d[k++] = (char)('0' + x % 10);
    while (x /= 10);
    while (k)
        b[n++] = d[--k];
    b[n++] = '\n';
    sys3(NR_write, 1, b, n);
}

static int bare_failed;
static inline void check(const char *what, int good) {
    puts_(good ? "ok " : "FAIL ");
    puts_(what);
    puts_("\n");
    if (!good)
        bare_failed = 1;
}
static inline __attribute__((noreturn)) void quit(int code) {
    for (;;)
        sys1(NR_exit_group, code ? code : bare_failed);
}

/* A program defines main_(sp): sp points at argc as the kernel left it. */
__attribute__((used)) static void main_(u64 *sp);
__asm__(".globl _start\n_start:\n  mov %rsp,%rdi\n  and $-16,%rsp\n  call main_\n  hlt\n");

/* Signals without libc: the frame is the kernel's, the restorer ours. */
struct ksigaction { void *handler; u64 flags; void (*restorer)(void); u64 mask; };
void bare_restorer(void);
__asm__(".globl bare_restorer\nbare_restorer:\n  mov $15,%eax\n  syscall\n");
static inline i64 on_signal(int sig, void *fn, u64 flags) {
    struct ksigaction sa = {fn, flags | 0x04000000 | 4, bare_restorer, 0}; /* SA_RESTORER | SA_SIGINFO */
    return sys4(NR_rt_sigaction, sig, &sa, 0, 8);
}
/* Offsets in the ucontext: gregs begin at 40. */
enum { R8 = 0, R9, R10, R11, R12, R13, R14, R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP, RIP, EFL };
static inline u64 *uc_regs(void *uc) { return (u64 *)((char *)uc + 40); }
#endif
