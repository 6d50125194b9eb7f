// modes: static dynamic musl
// stdin: \n\n\n\n\n\n
// held
// timeout: 90
// Cuts inside signal handlers: one in another on the alternate stack, one that interrupted a call, one for a fault, one that computes
// while signals queue up behind it, and handlers that run all the time.
#include "../held.h"
#include <pthread.h>

static char alternate[1 << 16];
static bool on_alternate(void) {
    char c, *p = &c;
    return p >= alternate && p < alternate + sizeof alternate;
}
static const char *blocked(void) {
    static char text[100];
    sigset_t now;
    MUST(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0);
    text[0] = 0;
    for (int s = 1; s < 32; s++)
        if (sigismember(&now, s))
            strcat(strcat(text, " "), sig_name(s));
    return text;
}
static void handle(int s, void (*f)(int, siginfo_t *, void *), int flags, int also) {
    struct sigaction a = {.sa_sigaction = f, .sa_flags = SA_SIGINFO | flags};
    if (also)
        sigaddset(&a.sa_mask, also);
    MUST(sigaction(s, &a, NULL) == 0);
}

static void inner(int s, siginfo_t *i, void *u) {
    (void)u;
    held("in a handler inside a handler");
    printf("%s from ourselves %d, alternate stack %d, blocked%s\n", sig_name(s), i->si_pid == getpid(), on_alternate(), blocked());
}
static void outer(int s, siginfo_t *i, void *u) {
    (void)i, (void)u;
    volatile char local[3000];
    memset((char *)local, 'l', sizeof local);
    raise(SIGUSR2);
    int wrong = 0;
    for (unsigned n = 0; n < sizeof local; n++)
        wrong += local[n] != 'l';
    printf("%s, alternate stack %d, blocked%s, wrong %d\n", sig_name(s), on_alternate(), blocked(), wrong);
}

static int p[2];
static volatile int about, handled;
static void interrupts(int s, siginfo_t *i, void *u) {
    (void)s, (void)i, (void)u;
    int e = errno;
    held("in a handler that has interrupted a read");
    errno = e;
    handled = 1;
}
/* Sends a signal to the main thread when it waits, and ends its wait if that is begun anew. */
static void *disturbs(void *restart) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    await_state(&about, getpid(), getpid(), "S");
    kill(getpid(), SIGHUP);
    if (restart) {
        await_state(&handled, getpid(), getpid(), "S");
        MUST(write(p[1], "y", 1) == 1);
    }
    return NULL;
}

static char *page;
static void on_fault(int s, siginfo_t *i, void *u) {
    (void)u;
    held("in the handler of a fault");
    printf("%s at our page %d\n", sig_name(s), i->si_addr == page + 8);
    MUST(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
}

static volatile int computing, released, queued, in_order = 1;
static double sum;
static void computes(int s, siginfo_t *i, void *u) {
    (void)s, (void)i, (void)u;
    /* Vector registers are live and no call is made. */
    double a = 1, b = 0;
    long n = 0;
    computing = 1;
    while (!released || n < 1000) {
        b += 1 / a;
        a *= 2;
        if (a > 1e9)
            a = 1, b = 0;
        n++;
    }
    while (a != 1024) { /* from wherever it was to one state */
        b += 1 / a;
        a *= 2;
        if (a > 1e9)
            a = 1, b = 0;
    }
    sum = b;
}
static void counts(int s, siginfo_t *i, void *u) {
    (void)s, (void)u;
    in_order &= i->si_value.sival_int == queued++;
}
static void *thread(void *arg) {
    (void)arg;
    raise(SIGUSR1);
    return NULL;
}

static volatile long ticks, bad;
static void tick(int s, siginfo_t *i, void *u) {
    (void)s, (void)i, (void)u;
    volatile char local[500];
    memset((char *)local, (int)ticks, sizeof local);
    for (unsigned n = 0; n < sizeof local; n++)
        bad += local[n] != (char)ticks;
    ticks++;
}

int main(void) {
    stack_t ss = {.ss_sp = alternate, .ss_size = sizeof alternate}, now;
    MUST(sigaltstack(&ss, NULL) == 0);
    handle(SIGUSR1, outer, SA_ONSTACK, SIGHUP);
    handle(SIGUSR2, inner, SA_ONSTACK, SIGTERM);
    raise(SIGUSR1);
    printf("after them: alternate stack %d, blocked%s\n", on_alternate(), blocked());
    MUST(sigaltstack(NULL, &now) == 0);
    SHOW(now.ss_flags);

    char c;
    pthread_t t;
    MUST(pipe(p) == 0);
    for (long restart = 0; restart < 2; restart++) {
        handle(SIGHUP, interrupts, restart ? SA_RESTART : 0, 0);
        about = handled = 0;
        MUST(pthread_create(&t, NULL, disturbs, (void *)restart) == 0);
        about = 1;
        SHOW(read(p[0], &c, 1));
        pthread_join(t, NULL);
    }
    SHOW(c);

    page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    handle(SIGSEGV, on_fault, SA_ONSTACK, 0);
    unsigned char in[32], out[32];
    for (int i = 0; i < 32; i++)
        in[i] = (unsigned char)(i * 11 + 3), out[i] = 0;
    long flags = 0, value = 0x1234567890;
    __asm__ volatile("movdqu (%[in]), %%xmm9\n\tmovdqu 16(%[in]), %%xmm15\n\tstc\n\t"
                     "movq %[value], 8(%[page])\n\t" /* faults, and is executed again behind the handler */
                     "sbbq %[flags], %[flags]\n\tmovdqu %%xmm9, (%[out])\n\tmovdqu %%xmm15, 16(%[out])"
                     : [flags] "+r"(flags)
                     : [in] "r"(in), [out] "r"(out), [page] "r"(page), [value] "r"(value)
                     : "xmm9", "xmm15", "memory", "cc");
    CHECK(memcmp(in, out, 32) == 0);
    CHECK(flags == -1);
    CHECK(*(long *)(page + 8) == value);

    handle(SIGUSR1, computes, 0, SIGRTMIN);
    handle(SIGRTMIN, counts, 0, 0);
    MUST(pthread_create(&t, NULL, thread, NULL) == 0);
    while (!computing)
        sleep_ms(1);
    sigset_t rt;
    sigemptyset(&rt);
    sigaddset(&rt, SIGRTMIN);
    MUST(pthread_sigmask(SIG_BLOCK, &rt, NULL) == 0);
    for (int i = 0; i < 5; i++)
        MUST(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i}) == 0);
    held("in a handler that computes, with signals queued behind it");
    SHOW(queued);
    released = 1;
    pthread_join(t, NULL);
    MUST(pthread_sigmask(SIG_UNBLOCK, &rt, NULL) == 0);
    SHOW(queued);
    CHECK(in_order);
    printf("%.17g\n", sum);

    handle(SIGALRM, tick, SA_ONSTACK | SA_RESTART, 0);
    struct itimerval it = {{0, 300}, {0, 300}};
    MUST(setitimer(ITIMER_REAL, &it, NULL) == 0);
    while (ticks < 20)
        ;
    held("handlers all the time");
    long then = ticks;
    while (ticks < then + 20)
        ;
    it = (struct itimerval){0};
    MUST(setitimer(ITIMER_REAL, &it, NULL) == 0);
    SHOW(bad);
    return done();
}
