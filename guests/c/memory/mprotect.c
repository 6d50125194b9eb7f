// modes: static dynamic musl
// mprotect changes what is allowed, page by page; the fault says SEGV_ACCERR and where.
#include "../common.h"
#include <setjmp.h>

static sigjmp_buf jump;
static siginfo_t last;
static void on_segv(int s, siginfo_t *i, void *u) {
    (void)s, (void)u;
    last = *i;
    siglongjmp(jump, 1);
}
static void touch(const char *what, volatile char *p, int write_too) {
    if (sigsetjmp(jump, 1) == 0) {
        char c = *p;
        if (write_too)
            *p = c;
        printf("%s: allowed\n", what);
    } else
        printf("%s: code %d address %s\n", what, last.si_code, last.si_addr == (void *)p ? "right" : "wrong");
}

int main(void) {
    struct sigaction sa = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &sa, NULL);
    char *a = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(a, 'm', 4 * 4096);
    SHOW(mprotect(a + 4096, 4096, PROT_READ));
    touch("read of a read-only page", a + 4096 + 5, 0);
    touch("write of a read-only page", a + 4096 + 5, 1);
    touch("write of its neighbour", a + 8192, 1);
    SHOW(mprotect(a, 3 * 4096, PROT_NONE));
    touch("read of PROT_NONE", a + 123, 0);
    touch("the fourth page", a + 3 * 4096, 1);
    SHOW(mprotect(a, 4 * 4096, PROT_READ | PROT_WRITE));
    touch("write again", a, 1);
    CHECK(a[4097] == 'm');
    touch("null", (char *)0, 0);
    SHOW(mprotect(a + 1, 4096, PROT_READ));
    SHOW(mprotect(a, 0, PROT_READ));
    SHOW(mprotect(a, 4096, 0x100));
    SHOW(munmap(a + 8192, 4096));
    SHOW(mprotect(a, 4 * 4096, PROT_READ)); /* up to the hole it took effect */
    touch("before the hole", a, 1);
    SHOW(mprotect(a, (size_t)-4096, PROT_READ));
    SHOW(mprotect(a, 100, PROT_READ | PROT_WRITE)); /* length is rounded up */
    touch("rounded", a + 4095, 1);
    return done();
}
