// modes: static dynamic musl
// The rounding mode and the x87 control word survive system calls and a fork.
#include "../common.h"
#include <fenv.h>

static unsigned mxcsr(void) {
    unsigned v;
    __asm__ volatile("stmxcsr %0" : "=m"(v));
    return v;
}
static unsigned fpucw(void) {
    unsigned short v;
    __asm__ volatile("fnstcw %0" : "=m"(v));
    return v;
}

int main(void) {
    printf("at start: mxcsr %x, control word %x\n", mxcsr(), fpucw());
    fesetround(FE_TOWARDZERO);
    unsigned m = mxcsr() & ~0x3fu, c = fpucw();
    for (int i = 0; i < 100; i++) {
        syscall(SYS_getppid);
        MUST((mxcsr() & ~0x3fu) == m && fpucw() == c);
    }
    pid_t p = fork();
    if (p == 0)
        child_exit((mxcsr() & ~0x3fu) == m && fpucw() == c ? 0 : 1);
    wait_show("child", p);
    CHECK(fegetround() == FE_TOWARDZERO);
    return done();
}
