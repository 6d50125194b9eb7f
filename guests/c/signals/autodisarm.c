// modes: static dynamic
// SS_AUTODISARM: the alternate stack is free again inside the handler, and back after it.
#include "../common.h"
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

static char stack[65536], other[65536];
static volatile int depth;
static bool on(const void *p) { return (const char *)p >= stack && (const char *)p < stack + sizeof stack; }

static void handler(int s) {
    stack_t now;
    char here;
    MUST(sigaltstack(NULL, &now) == 0);
    printf("depth %d on it %d flags %x size %zu\n", depth, on(&here), (unsigned)now.ss_flags, now.ss_size);
    if (depth++ == 0) {
        stack_t set = {.ss_sp = other, .ss_size = sizeof other};
        SHOW(sigaltstack(&set, NULL));
        raise(s);
    }
}

int main(void) {
    struct sigaction a = {.sa_handler = handler, .sa_flags = SA_ONSTACK | SA_NODEFER};
    MUST(sigaction(SIGUSR1, &a, NULL) == 0);
    stack_t set = {.ss_sp = stack, .ss_size = sizeof stack, .ss_flags = (int)SS_AUTODISARM}, now;
    SHOW(sigaltstack(&set, NULL));
    raise(SIGUSR1);
    MUST(sigaltstack(NULL, &now) == 0);
    printf("after: same %d flags %x size %zu\n", now.ss_sp == stack, (unsigned)now.ss_flags, now.ss_size);
    set.ss_size = 100;
    SHOW(sigaltstack(&set, NULL));
    set.ss_size = sizeof stack, set.ss_flags = 3;
    SHOW(sigaltstack(&set, NULL));
    set.ss_flags = SS_DISABLE;
    SHOW(sigaltstack(&set, NULL));
    MUST(sigaltstack(NULL, &now) == 0);
    printf("off: flags %x size %zu\n", (unsigned)now.ss_flags, now.ss_size);
    return done();
}
