// modes: static dynamic musl
// needs: threads
// A thread's guard page stops an overflow of its stack; a page made PROT_NONE guards a buffer.
#include "../common.h"
#include <pthread.h>
#include <setjmp.h>

static sigjmp_buf jump;
static char alt[65536];
static void on_segv(int s) { (void)s, siglongjmp(jump, 1); }
static __attribute__((noinline)) int endless(int n) {
    volatile char pad[2000];
    pad[0] = (char)n;
    return n < 0 ? 0 : endless(n + 1) + pad[0];
}
static void *overflow(void *arg) {
    (void)arg;
    stack_t st = {.ss_sp = alt, .ss_size = sizeof alt};
    MUST(sigaltstack(&st, NULL) == 0);
    if (sigsetjmp(jump, 1) == 0)
        endless(0);
    else
        puts("the overflow was caught");
    st.ss_flags = SS_DISABLE;
    sigaltstack(&st, NULL);
    return NULL;
}

int main(void) {
    struct sigaction sa = {.sa_handler = on_segv, .sa_flags = SA_ONSTACK};
    sigaction(SIGSEGV, &sa, NULL);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    SHOWE(pthread_attr_setstacksize(&attr, 256 << 10));
    pthread_t t;
    MUST(pthread_create(&t, &attr, overflow, NULL) == 0);
    SHOWE(pthread_join(t, NULL));
    char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(mprotect(m + 4096, 4096, PROT_NONE) == 0);
    volatile int reached = 0;
    if (sigsetjmp(jump, 1) == 0)
        for (reached = 4000;; reached++)
            m[reached] = 1;
    SHOW(reached);
    return done();
}
