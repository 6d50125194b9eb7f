// modes: static dynamic musl
// exit: 134
// abort() dies by SIGABRT even when it is blocked.
#include "../common.h"

int main(void) {
    no_core();
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    puts("aborting");
    abort();
}
