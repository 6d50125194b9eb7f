// modes: bare
// The number is the low 32 bits of rax, as int; arguments keep what their types keep.
#include "../bare.h"

static void main_(u64 *sp) {
    (void)sp;
    i64 pid = sys0(NR_getpid);
    check("bit 32 is dropped", sys0(NR_getpid | 1L << 32) == pid);
    check("all high bits are dropped", sys0((i64)((u64)NR_getpid | 0xffffffff00000000)) == pid);
    put_num("bit 31", sys0(0x80000000 | NR_getpid));
    put_num("x32 bit", sys0(0x40000000 | NR_getpid));
    put_num("high and wild", sys0(0x1ffffffff));
    put_num("fd with high bits", sys3(NR_write, 0x500000001, "same fd\n", 8));
    put_num("fd minus one in 32 bits", sys3(NR_write, 0xffffffff, "x", 1));
    put_num("signal number with high bits", sys2(NR_kill, pid | (1L << 40), 0L | 1L << 36));
    put_num("size has all bits", sys3(NR_write, 1, 8, 1L << 40));
    quit(0);
}
