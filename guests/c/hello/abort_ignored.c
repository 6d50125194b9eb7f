// modes: static dynamic musl
// exit: 134
// abort() dies even when SIGABRT is ignored, and when its handler returns.
#include "../common.h"

static void on_abort(int s) { (void)!write(1, s == SIGABRT ? "handler\n" : "?\n", s == SIGABRT ? 8 : 2); }

int main(void) {
    no_core();
    pid_t p = fork();
    if (p == 0) {
        signal(SIGABRT, on_abort);
        abort();
    }
    wait_show("with handler", p);
    signal(SIGABRT, SIG_IGN);
    puts("aborting");
    abort();
}
