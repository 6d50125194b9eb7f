/* Timeouts: relative and absolute, counted, removed and changed; the time limit of io_uring_enter itself. */
#include "../uring.h"

static struct ring r;
static long enter_arg(unsigned submit, unsigned min, struct __kernel_timespec *t, sigset_t *mask) {
    struct io_uring_getevents_arg a;
    memset(&a, 0, sizeof a);
    a.ts = (uintptr_t)t;
    a.sigmask = (uintptr_t)mask;
    a.sigmask_sz = 8;
    return syscall(SYS_io_uring_enter, r.fd, submit, min, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &a, sizeof a);
}
static int alarms;
static void on_alarm(int s) { alarms += s == SIGALRM; }

int main(void) {
    r = ring_new(16, 0, 0);
    struct __kernel_timespec brief = {0, 20000000}, longer = {30, 0}, zero = {0, 0}, odd = {0, -1}, odder = {-1, 0};
    int64_t before = now_ns(CLOCK_MONOTONIC);
    entry(&r, IORING_OP_TIMEOUT, -1, &brief, 1, 0, 1);
    go(&r, "timeout", 1);
    CHECK(now_ns(CLOCK_MONOTONIC) - before >= 20000000);
    entry(&r, IORING_OP_TIMEOUT, -1, &zero, 1, 0, 1);
    go(&r, "no time", 1);
    entry(&r, IORING_OP_TIMEOUT, -1, &odd, 1, 0, 1);
    go(&r, "odd time", 1);
    entry(&r, IORING_OP_TIMEOUT, -1, &odder, 1, 0, 1);
    go(&r, "odder time", 1);
    entry(&r, IORING_OP_TIMEOUT, -1, &brief, 2, 0, 1);
    go(&r, "odd length", 1);
    entry(&r, IORING_OP_TIMEOUT, -1, BAD, 1, 0, 1);
    go(&r, "bad address", 1);
    entry(&r, IORING_OP_TIMEOUT, -1, &brief, 1, 0, 1)->timeout_flags = 1u << 20;
    go(&r, "odd flags", 1);
    /* Absolute, on both clocks. */
    before = now_ns(CLOCK_MONOTONIC) + 20000000;
    struct __kernel_timespec at = {before / 1000000000, before % 1000000000};
    entry(&r, IORING_OP_TIMEOUT, -1, &at, 1, 0, 1)->timeout_flags = IORING_TIMEOUT_ABS;
    go(&r, "absolute", 1);
    CHECK(now_ns(CLOCK_MONOTONIC) >= before);
    before = now_ns(CLOCK_REALTIME) + 20000000;
    at = (struct __kernel_timespec){before / 1000000000, before % 1000000000};
    entry(&r, IORING_OP_TIMEOUT, -1, &at, 1, 0, 1)->timeout_flags = IORING_TIMEOUT_ABS | IORING_TIMEOUT_REALTIME;
    go(&r, "real time", 1);
    CHECK(now_ns(CLOCK_REALTIME) >= before);
    entry(&r, IORING_OP_TIMEOUT, -1, &at, 1, 0, 1)->timeout_flags = IORING_TIMEOUT_BOOTTIME | IORING_TIMEOUT_REALTIME;
    go(&r, "two clocks", 1);
    /* Success, and a chain that goes on. */
    entry(&r, IORING_OP_TIMEOUT, -1, &brief, 1, 0, 1)->flags = IOSQE_IO_LINK;
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 2);
    go(&r, "breaks", 2);
    struct io_uring_sqe *s = entry(&r, IORING_OP_TIMEOUT, -1, &brief, 1, 0, 1);
    s->flags = IOSQE_IO_LINK;
    s->timeout_flags = IORING_TIMEOUT_ETIME_SUCCESS;
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 2);
    go(&r, "goes on", 2);
    /* Order of several. */
    struct __kernel_timespec t[3] = {{0, 180000000}, {0, 60000000}, {0, 120000000}};
    for (int i = 0; i < 3; i++)
        entry(&r, IORING_OP_TIMEOUT, -1, &t[i], 1, 0, i);
    SHOW(submit(&r));
    for (int i = 0; i < 3; i++) {
        struct cqe c = take(&r);
        print_cqe(&c);
    }
    /* Counted. */
    entry(&r, IORING_OP_TIMEOUT, -1, &longer, 1, 2, 1);
    SHOW(submit(&r));
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 2);
    go(&r, "one", 1);
    printf("ready %u\n", ready(&r));
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 3);
    go(&r, "two", 2);
    /* Removed and changed. */
    entry(&r, IORING_OP_TIMEOUT, -1, &longer, 1, 0, 1);
    SHOW(submit(&r));
    entry(&r, IORING_OP_TIMEOUT_REMOVE, -1, (void *)1, 0, 0, 2);
    go(&r, "removed", 2);
    entry(&r, IORING_OP_TIMEOUT_REMOVE, -1, (void *)1, 0, 0, 2);
    go(&r, "not there", 1);
    entry(&r, IORING_OP_TIMEOUT, -1, &longer, 1, 0, 1);
    SHOW(submit(&r));
    s = entry(&r, IORING_OP_TIMEOUT_REMOVE, -1, (void *)1, 0, (uintptr_t)&brief, 2);
    s->timeout_flags = IORING_TIMEOUT_UPDATE;
    go(&r, "changed", 2);
    s = entry(&r, IORING_OP_TIMEOUT_REMOVE, -1, (void *)1, 0, (uintptr_t)&brief, 2);
    s->timeout_flags = IORING_TIMEOUT_UPDATE;
    go(&r, "nothing to change", 1);
    s = entry(&r, IORING_OP_TIMEOUT_REMOVE, -1, (void *)1, 0, 0, 2);
    s->timeout_flags = 1 << 12;
    go(&r, "odd flags", 1);
    /* Again and again. */
    entry(&r, IORING_OP_TIMEOUT, -1, &brief, 1, 3, 1)->timeout_flags = IORING_TIMEOUT_MULTISHOT;
    go(&r, "three times", 3);
    /* io_uring_enter's own. */
    SHOW(enter_arg(0, 1, &brief, NULL));
    SHOW(enter_arg(0, 1, &odd, NULL));
    SHOW(enter_arg(0, 1, BAD, NULL));
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
    flush(&r);
    SHOW(enter_arg(1, 2, &brief, NULL));
    SHOW(enter_arg(0, 2, &brief, NULL));
    show(&r, 1);
    SHOW(syscall(SYS_io_uring_enter, r.fd, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &brief, 8));
    /* A timeout's end ends the wait for more. */
    entry(&r, IORING_OP_TIMEOUT, -1, &brief, 1, 0, 1);
    unsigned n = flush(&r);
    SHOW(enter_arg(n, 5, &longer, NULL)); /* a time of its own, should that end come before the wait has begun */
    show(&r, 1);
    /* Signals, with a mask of its own. */
    struct sigaction sa = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &sa, NULL);
    sigset_t all, none, alrm;
    sigfillset(&all);
    sigemptyset(&none);
    sigemptyset(&alrm);
    sigaddset(&alrm, SIGALRM);
    /* Again, should one come before the call waits. */
    struct itimerval iv = {{0, 0}, {0, 20000}}, often = {{0, 20000}, {0, 20000}}, off = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    SHOW(enter_arg(0, 1, NULL, NULL));
    setitimer(ITIMER_REAL, &off, NULL);
    printf("alarms %d\n", alarms > 0);
    alarms = 0;
    sigprocmask(SIG_BLOCK, &alrm, NULL);
    setitimer(ITIMER_REAL, &iv, NULL);
    SHOW(enter_arg(0, 1, NULL, &none));
    printf("alarms %d\n", alarms);
    setitimer(ITIMER_REAL, &iv, NULL);
    SHOW(enter_arg(0, 1, &(struct __kernel_timespec){0, 60000000}, NULL));
    printf("alarms %d\n", alarms);
    sigprocmask(SIG_UNBLOCK, &alrm, NULL);
    printf("alarms %d\n", alarms);
    entry(&r, IORING_OP_TIMEOUT, -1, &(struct __kernel_timespec){0, 60000000}, 1, 0, 1);
    setitimer(ITIMER_REAL, &iv, NULL);
    SHOW(submit_wait(&r, 1));
    printf("alarms %d\n", alarms);
    show(&r, 1);
    ring_free(&r);
    return done();
}
