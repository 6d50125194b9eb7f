// modes: bare
// The 128 bytes below rsp survive every system call and, since the kernel skips them, every signal.
#include "../bare.h"

static volatile u64 hits;
static void on_usr1(int s, void *i, void *u) {
    (void)s, (void)i, (void)u;
    hits++;
}

/* Fills the red zone, makes the call, returns how many of the 16 words changed. */
u64 zone(i64 nr, i64 a, i64 b, i64 c);
__asm__("zone: mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n mov %rcx,%rdx\n"
        ".set i,1\n .rept 16\n movq $(0x5a5a00+i),-8*i(%rsp)\n .set i,i+1\n .endr\n"
        "syscall\n xor %eax,%eax\n"
        ".set i,1\n .rept 16\n cmpq $(0x5a5a00+i),-8*i(%rsp)\n je 1f\n inc %eax\n1:\n .set i,i+1\n .endr\n ret\n");

static void main_(u64 *sp) {
    (void)sp;
    i64 pid = sys0(NR_getpid), tid = sys0(NR_gettid);
    on_signal(10, on_usr1, 0);
    u64 changed = 0;
    for (int i = 0; i < 100; i++) {
        changed += zone(NR_getpid, 0, 0, 0);
        changed += zone(NR_sched_yield, 0, 0, 0);
        changed += zone(NR_write, 1, 0, 0);
        changed += zone(NR_write, -1, 8, 8);
        changed += zone(1000, 0, 0, 0);
    }
    put_num("words changed by calls", (i64)changed);
    for (int i = 0; i < 100; i++)
        changed += zone(NR_tgkill, pid, tid, 10);
    put_num("words changed by signals", (i64)changed);
    put_num("signals", (i64)hits);
    quit(0);
}
