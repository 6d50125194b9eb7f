// modes: static dynamic musl
// A handler that repairs: makes the page writable, changes registers, steps over the instruction, as a VM does.
#include "../common.h"
#include <ucontext.h>

enum { REG_RIP_ = 16, REG_RAX_ = 13, REG_RBX_ = 11, REG_RDI_ = 8 };
static char *page;
static volatile int mode, faults;
static void handler(int s, siginfo_t *i, void *u) {
    (void)s;
    long long *g = (long long *)((ucontext_t *)u)->uc_mcontext.gregs;
    faults++;
    if (mode == 0)
        mprotect(page, 4096, PROT_READ | PROT_WRITE);
    else if (mode == 1) {
        g[REG_RAX_] = 42;
        g[REG_RIP_] += 2; /* mov (%rbx),%eax */
    } else if (mode == 2)
        g[REG_RBX_] = (long long)page; /* the same instruction again */
    else
        g[REG_RIP_] = g[REG_RDI_];
    MUST(i->si_addr == (mode == 0 ? page + 8 : (char *)0x10));
}

int main(void) {
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &a, NULL);
    page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[8] = 7;
    SHOW(page[8]);
    *(int *)page = 1234;
    int v;
    long b = 0x10;
    mode = 1;
    __asm__ volatile("mov (%%rbx),%%eax" : "=a"(v), "+b"(b) : : "memory");
    SHOW(v);
    mode = 2;
    __asm__ volatile("mov (%%rbx),%%eax" : "=a"(v), "+b"(b) : : "memory");
    SHOW(v);
    mode = 3;
    CHECK(b == (long)page);
    b = 0x10;
    __asm__ volatile("lea 1f(%%rip),%%rdi\n mov (%%rbx),%%eax\n ud2\n1: mov $77,%%eax" : "=a"(v), "+b"(b) : : "rdi", "memory");
    SHOW(v);
    mode = 1;
    int sum = 0;
    for (int i = 0; i < 3000; i++) {
        __asm__ volatile("mov (%%rbx),%%eax" : "=a"(v), "+b"(b) : : "memory");
        sum += v;
    }
    SHOW(sum);
    SHOW(faults);
    return done();
}
