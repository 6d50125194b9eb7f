// modes: static dynamic musl
// exit: 3
// exit_group ends at once: no atexit handler, no flush of what stdio still holds.
#include "../common.h"

static void never(void) { puts("must not run"); }

int main(void) {
    setvbuf(stdout, NULL, _IOFBF, 4096);
    atexit(never);
    puts("lost in the buffer");
    MUST(write(1, "written\n", 8) == 8);
    syscall(SYS_exit_group, 3);
}
