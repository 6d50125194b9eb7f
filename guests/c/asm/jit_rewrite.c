// modes: bare
// Code written at run time: a site that has run is written anew, in whole and only in the number before it.
#include "../bare.h"

static void main_(u64 *sp) {
    (void)sp;
    i64 pid = sys0(NR_getpid), ppid = sys0(NR_getppid);
    unsigned char *m = (void *)sys6(NR_mmap, 0, 8192, 7, 0x22, -1, 0);
    static const unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x90, 0x90, 0x90, 0xc3};
    i64 (*f)(void) = (void *)m;
    int good = 1;
    for (int i = 0; i < 50; i++) {
        memcpy(m, code, sizeof code);
        good &= f() == pid && f() == pid;
        m[1] = NR_getppid; /* one byte of the instruction before */
        good &= f() == ppid && f() == ppid;
    }
    check("rewritten while writable and executable", good);
    good = 1;
    for (int i = 0; i < 20; i++) {
        good &= sys3(NR_mprotect, m, 8192, 3) == 0;
        memcpy(m + 100, code, sizeof code);
        m[101] = i % 2 ? NR_getpid : NR_getppid;
        good &= sys3(NR_mprotect, m, 8192, 5) == 0;
        i64 (*g)(void) = (void *)(m + 100);
        for (int k = 0; k < 3; k++)
            good &= g() == (i % 2 ? pid : ppid);
    }
    check("rewritten between mprotects", good);
    good = 1;
    for (int i = 0; i < 20; i++) { /* the same place mapped anew */
        good &= sys6(NR_mmap, (i64)m, 4096, 7, 0x32, -1, 0) == (i64)m;
        memcpy(m + i, code, sizeof code);
        i64 (*g)(void) = (void *)(m + i);
        for (int k = 0; k < 3; k++)
            good &= g() == pid;
        good &= sys2(NR_munmap, m, 4096) == 0;
    }
    check("rewritten by a new mapping", good);
    quit(0);
}
