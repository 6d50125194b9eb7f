// modes: bare
// 2,000 different sites, each used three times.
#include "../bare.h"

i64 many(void);
__asm__(".p2align 4\nmany: push %rbx\n xor %ebx,%ebx\n"
        ".rept 2000\n mov $110,%eax\n syscall\n add %rax,%rbx\n .endr\n"
        " mov %rbx,%rax\n pop %rbx\n ret\n");

static void main_(u64 *sp) {
    (void)sp;
    i64 ppid = sys0(NR_getppid);
    for (int i = 0; i < 3; i++)
        check("sum over all sites", many() == 2000 * ppid);
    quit(0);
}
