// modes: static dynamic musl
// munmap cuts holes out of mappings; accesses to holes fault, neighbours live.
#include "../common.h"
#include <setjmp.h>

static sigjmp_buf jump;
static void on_segv(int s) { (void)s, siglongjmp(jump, 1); }
static bool readable(volatile char *p) {
    if (sigsetjmp(jump, 1))
        return false;
    (void)*p;
    return true;
}

int main(void) {
    signal(SIGSEGV, on_segv);
    char *a = mmap(NULL, 9 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 9; i++)
        a[i * 4096] = (char)('0' + i);
    SHOW(munmap(a + 4096, 4096));
    SHOW(munmap(a + 3 * 4096, 2 * 4096));
    SHOW(munmap(a + 8 * 4096, 4096));
    for (int i = 0; i < 9; i++)
        printf("%d %s %c\n", i, readable(a + i * 4096) ? "there" : "gone", readable(a + i * 4096) ? a[i * 4096] : '-');
    SHOW(munmap(a, 9 * 4096)); /* over holes */
    for (int i = 0; i < 9; i++)
        MUST(!readable(a + i * 4096));
    SHOW(mprotect(a, 4096, PROT_READ));
    return done();
}
