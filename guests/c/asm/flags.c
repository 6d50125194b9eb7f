// modes: bare
// The arithmetic flags, the direction flag and the ID flag survive a call, set and clear.
#include "../bare.h"

static u64 over_call(u64 flags, i64 nr) {
    u64 out;
    __asm__ volatile("push %1; popfq; syscall; pushfq; pop %0; cld" : "=&b"(out), "+r"(flags), "+a"(nr) : "D"(-1L), "S"(0L), "d"(0L) : "rcx", "r11", "memory", "cc");
    return out;
}

static void main_(u64 *sp) {
    (void)sp;
    const u64 mask = 0x200cd5; /* ID, OF, DF, SF, ZF, AF, PF, CF */
    static const i64 calls[] = {NR_getpid, NR_sched_yield, NR_close, 1000};
    for (u64 c = 0; c < 4; c++) {
        int good = 1;
        for (int bit = 0; bit < 22; bit++)
            if (mask >> bit & 1) {
                good &= (over_call(0x202 | 1UL << bit, calls[c]) & mask) == 1UL << bit;
                good &= (over_call(0x202 | (mask & ~(1UL << bit)), calls[c]) & mask) == (mask & ~(1UL << bit));
            }
        check("flags over a call", good);
    }
    quit(0);
}
