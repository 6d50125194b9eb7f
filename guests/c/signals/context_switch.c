// modes: static dynamic
// getcontext, makecontext, swapcontext: coroutines with their own stacks and masks.
#include "../common.h"
#include <ucontext.h>

static ucontext_t main_ctx, a, b;
static int log_n;
static void co(int id) {
    for (int i = 0; i < 3; i++) {
        printf("coroutine %d step %d\n", id, i);
        log_n++;
        swapcontext(id == 1 ? &a : &b, id == 1 ? &b : &a);
    }
    printf("coroutine %d ends\n", id);
}

int main(void) {
    static char s1[65536], s2[65536];
    MUST(getcontext(&a) == 0 && getcontext(&b) == 0);
    a.uc_stack.ss_sp = s1, a.uc_stack.ss_size = sizeof s1, a.uc_link = &b;
    b.uc_stack.ss_sp = s2, b.uc_stack.ss_size = sizeof s2, b.uc_link = &main_ctx;
    makecontext(&a, (void (*)(void))co, 1, 1);
    makecontext(&b, (void (*)(void))co, 1, 2);
    SHOW(swapcontext(&main_ctx, &a));
    SHOW(log_n);
    return done();
}
