// modes: static dynamic musl
// Handlers that interrupt handlers, the same signal deferred or not (SA_NODEFER), one shot (SA_RESETHAND), sa_mask.
#include "../common.h"

static int depth, total;
static void nested(int s) {
    printf("%*senter %s\n", 2 * depth, "", sig_name(s));
    depth++;
    if (++total < 4)
        raise(total % 2 ? SIGUSR2 : SIGUSR1);
    depth--;
    printf("%*sleave %s\n", 2 * depth, "", sig_name(s));
}
static int count;
static void same(int s) {
    int me = count++;
    printf("same %d\n", me);
    if (me < 3)
        raise(s);
    printf("same %d ends\n", me);
}

int main(void) {
    struct sigaction a = {.sa_handler = nested};
    sigaction(SIGUSR1, &a, NULL);
    sigaction(SIGUSR2, &a, NULL);
    raise(SIGUSR1);
    puts("deferred:");
    a.sa_handler = same;
    sigaction(SIGUSR1, &a, NULL);
    raise(SIGUSR1);
    puts("not deferred:");
    count = 0;
    a.sa_flags = SA_NODEFER;
    sigaction(SIGUSR1, &a, NULL);
    raise(SIGUSR1);
    puts("blocked by sa_mask:");
    a.sa_flags = 0;
    a.sa_handler = nested;
    total = 0;
    sigaddset(&a.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &a, NULL);
    raise(SIGUSR1);
    puts("one shot:");
    a.sa_handler = same;
    count = 10;
    a.sa_flags = SA_RESETHAND;
    sigaction(SIGUSR1, &a, NULL);
    raise(SIGUSR1);
    struct sigaction old;
    sigaction(SIGUSR1, NULL, &old);
    CHECK(old.sa_handler == SIG_DFL);
    pid_t p = fork();
    if (p == 0) {
        raise(SIGUSR1);
        _exit(0);
    }
    wait_show("the second one", p);
    return done();
}
