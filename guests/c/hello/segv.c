// modes: static dynamic musl
// exit: 139
// A wild write without a handler kills by SIGSEGV.
#include "../common.h"

int main(void) {
    no_core();
    puts("before");
    *(volatile int *)16 = 1;
    puts("after");
}
