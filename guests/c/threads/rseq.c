// needs: threads
// modes: static musl
/* Restartable sequences: registration by hand, and a sequence that a signal ends. */
#include "../common.h"
#include <pthread.h>
#define SIG 0x53053053
struct area { uint32_t cpu_start, cpu; uint64_t cs; uint32_t flags, node, mm, pad; } __attribute__((aligned(32)));
struct cs { uint32_t version, flags; uint64_t start, len, abort; } __attribute__((aligned(32)));

static struct area mine;
static volatile int hit;
static long reg(void *a, unsigned n, int f, unsigned s) { return syscall(SYS_rseq, a, n, f, s); }
static void on_alarm(int s) {
    (void)s;
    hit++;
}

/* Spins inside a sequence until something takes it out: 1 by the abort, 0 by `limit`. */
static int spin(uint64_t limit) {
    static struct cs cs;
    int aborted = 0;
    __asm__ volatile("lea 1f(%%rip), %%rax\n mov %%rax, 8(%[cs])\n"
                     "lea 3f(%%rip), %%rax\n mov %%rax, 24(%[cs])\n"
                     "lea 2f(%%rip), %%rcx\n lea 1f(%%rip), %%rax\n sub %%rax, %%rcx\n mov %%rcx, 16(%[cs])\n"
                     "mov %[cs], 8(%[a])\n"
                     "1: dec %[n]\n jnz 1b\n"
                     "2: jmp 4f\n"
                     ".byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n"
                     "3: mov $1, %[ab]\n"
                     "4: movq $0, 8(%[a])\n"
                     : [ab] "+r"(aborted), [n] "+r"(limit)
                     : [cs] "r"(&cs), [a] "r"(&mine)
                     : "rax", "rcx", "memory", "cc");
    return aborted;
}

static void *thread(void *arg) {
    static struct area a;
    /* A new thread has none of its maker's; glibc may have registered one of its own. */
    long r = reg(&a, 32, 0, SIG);
    CHECK(r == 0 || errno == EINVAL);
    if (r == 0)
        reg(&a, 32, 1, SIG);
    return arg;
}

int main(void) {
    /* glibc registers an area itself; GLIBC_TUNABLES is not ours to set, so it is taken away first. */
    extern const long __rseq_offset __attribute__((weak));
    extern const unsigned __rseq_size __attribute__((weak));
    if (&__rseq_offset && __rseq_size) {
        char *tp = __builtin_thread_pointer();
        if (reg(tp + __rseq_offset, 32, 1, SIG) != 0)
            CHECK(!"taken away");
    }
    SHOW(reg(&mine, 32, 2, SIG));
    SHOW(reg((char *)&mine + 1, 32, 0, SIG));
    SHOW(reg(&mine, 16, 0, SIG));
    SHOW(reg((void *)(1UL << 62), 32, 0, SIG));
    SHOW(reg(&mine, 32, 1, SIG));
    mine.cpu = -1;
    SHOW(reg(&mine, 32, 0, SIG));
    CHECK(mine.cpu == mine.cpu_start && (int)mine.cpu >= 0);
    SHOW(reg(&mine, 32, 0, SIG));
    SHOW(reg(&mine, 32, 0, SIG + 1));
    SHOW(reg(&mine, 64, 0, SIG));
    pthread_t t;
    MUST(pthread_create(&t, NULL, thread, NULL) == 0);
    pthread_join(t, NULL);
    struct sigaction sa = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval it = {{0, 0}, {0, 30000}};
    /* The signal may come before the sequence has begun, or between two. */
    int aborted = 0;
    for (int i = 0; i < 100 && !aborted; i++) {
        hit = 0;
        setitimer(ITIMER_REAL, &it, NULL);
        while (!hit)
            aborted |= spin(1000000000);
    }
    CHECK(aborted == 1);
    CHECK(mine.cs == 0);
    pid_t pid = fork();
    if (pid == 0)
        child_exit(reg(&mine, 32, 0, SIG) == -1 && errno == EBUSY ? 0 : 1);
    int st;
    MUST(waitpid(pid, &st, 0) == pid);
    CHECK(st == 0);
    SHOW(reg(&mine, 32, 1, SIG + 1));
    SHOW(reg(&mine, 32, 1, SIG));
    CHECK((int)mine.cpu == -1);
    SHOW(reg(&mine, 32, 1, SIG));
    return done();
}
