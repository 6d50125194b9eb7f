// modes: bare
// The break: where it starts, growing, shrinking, contents after growing again, refusal.
#include "../bare.h"

static void main_(u64 *sp) {
    (void)sp;
    u64 start = (u64)sys1(NR_brk, 0);
    check("there is a break", start != 0);
    check("grows", (u64)sys1(NR_brk, start + 100000) == start + 100000);
    char *p = (char *)start;
    int zero = 1;
    for (int i = 0; i < 100000; i++)
        zero &= p[i] == 0;
    check("zeroed", zero);
    memset(p, 1, 100000);
    check("grows to an odd place", (u64)sys1(NR_brk, start + 200001) == start + 200001);
    check("kept", p[99999] == 1);
    u64 page = (start + 4095) & -4096UL;
    check("shrinks", (u64)sys1(NR_brk, page + 4096) == page + 4096);
    check("grows again", (u64)sys1(NR_brk, page + 8192) == page + 8192);
    check("fresh memory is zero", ((char *)page)[4096] == 0);
    check("old memory is kept", ((char *)page)[4095] == 1);
    check("below the start is refused", (u64)sys1(NR_brk, start - 4096) == page + 8192);
    check("the absurd is refused", (u64)sys1(NR_brk, 1UL << 62) == page + 8192);
    check("over a mapping is refused", sys6(NR_mmap, (i64)(page + (1 << 20)), 4096, 3, 0x32, -1, 0) > 0 &&
                                          (u64)sys1(NR_brk, page + (2 << 20)) == page + 8192);
    check("back to the start", (u64)sys1(NR_brk, start) == start);
    quit(0);
}
