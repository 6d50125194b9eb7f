// modes: bare
// args: x yy
// What the kernel leaves at _start: stack, alignment, auxiliary vector, flags, floating-point control.
#include "../bare.h"

static void main_(u64 *sp) {
    check("argc is 3", sp[0] == 3);
    char **argv = (char **)(sp + 1);
    check("argv ends", argv[3] == 0);
    puts_(argv[1]);
    puts_(" ");
    puts_(argv[2]);
    puts_("\n");
    check("stack is aligned to 16", (u64)sp % 16 == 0);
    u64 *p = sp + 5;
    while (*p)
        p++;
    int pagesz = 0, execfn = 0;
    for (p++; p[0]; p += 2) {
        pagesz |= p[0] == 6 && p[1] == 4096;
        execfn |= p[0] == 31;
    }
    check("auxv has the page size", pagesz);
    check("auxv has the file name", execfn);
    u64 flags;
    __asm__("pushfq; pop %0" : "=r"(flags));
    check("direction flag is clear", !(flags & 0x400));
    check("interrupts look enabled", !!(flags & 0x200));
    unsigned mx;
    __asm__("stmxcsr %0" : "=m"(mx));
    put_num("mxcsr", mx);
    unsigned short cw;
    __asm__("fnstcw %0" : "=m"(cw));
    put_num("x87 control word", cw);
    quit(0);
}
