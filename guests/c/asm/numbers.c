// modes: bare
// Numbers that are no system calls: all answer ENOSYS and change nothing else.
#include "../bare.h"

static void main_(u64 *sp) {
    (void)sp;
    int good = 1;
    for (i64 n = 340; n < 424; n++)
        good &= sys0(n) == -38;
    check("340..423 is a hole", good);
    static const i64 wild[] = {511, 512, 547, 548, 1000, 4096, 65535, 0x3fffffff, 0x7fffffff, -1, -2, -4095, -38};
    for (u64 i = 0; i < sizeof wild / sizeof *wild; i++)
        put_num("result", sys0(wild[i]));
    /* calls that were removed or never built in: also ENOSYS */
    static const int gone[] = {134, 154 + 2, 174, 177, 178, 180, 181, 182, 183, 184, 185, 205, 211, 214, 215, 236};
    for (u64 i = 0; i < sizeof gone / sizeof *gone; i++)
        put_num("removed", sys0(gone[i]));
    quit(0);
}
