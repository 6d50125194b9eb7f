// needs: threads
/* Ways to set a ring up: one submitter, completions put off, a polling thread, large entries, no index array. */
#include "../uring.h"
#include <poll.h>
#include <pthread.h>

static struct ring r;
static void *other(void *arg) {
    SHOW(uring_enter(r.fd, 1, 0, 0));
    SHOW(uring_enter(r.fd, 0, 0, IORING_ENTER_GETEVENTS));
    SHOW(uring_register(r.fd, IORING_REGISTER_PERSONALITY, NULL, 0));
    return arg;
}

int main(void) {
    int p[2];
    char b[8];
    pthread_t t;
    MUST(pipe(p) == 0);
    puts("one submitter");
    r = ring_new(8, IORING_SETUP_SINGLE_ISSUER, 0);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
    flush(&r);
    MUST(pthread_create(&t, NULL, other, NULL) == 0);
    pthread_join(t, NULL);
    SHOW(uring_enter(r.fd, 1, 1, IORING_ENTER_GETEVENTS));
    show(&r, 1);
    ring_free(&r);

    puts("put off");
    r = ring_new(8, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG, 0);
    unsigned *flags = sq_word(&r, r.p.sq_off.flags);
    entry(&r, IORING_OP_READ, p[0], b, 8, 0, 1);
    SHOW(submit(&r));
    MUST(write(p[1], "x", 1) == 1);
    printf("ready %u, flag %d\n", ready(&r), !!(*flags & IORING_SQ_TASKRUN));
    struct pollfd pf = {r.fd, POLLIN, 0};
    SHOW(poll(&pf, 1, 0));
    SHOW(uring_enter(r.fd, 0, 0, IORING_ENTER_GETEVENTS));
    printf("ready %u, flag %d\n", ready(&r), !!(*flags & IORING_SQ_TASKRUN));
    show(&r, 1);
    entry(&r, IORING_OP_READ, p[0], b, 8, 0, 2);
    SHOW(submit(&r));
    pid_t pid = fork();
    if (pid == 0) {
        sleep_ms(20);
        MUST(write(p[1], "y", 1) == 1);
        child_exit(0);
    }
    SHOW(uring_enter(r.fd, 0, 1, IORING_ENTER_GETEVENTS));
    show(&r, 1);
    wait_show("child", pid);
    MUST(pthread_create(&t, NULL, other, NULL) == 0);
    pthread_join(t, NULL);
    ring_free(&r);

    puts("polling thread");
    struct io_uring_params pp;
    memset(&pp, 0, sizeof pp);
    pp.flags = IORING_SETUP_SQPOLL;
    pp.sq_thread_idle = 1;
    memset(&r, 0, sizeof r);
    r.fd = uring_setup(8, &pp);
    MUST(r.fd >= 0);
    r.p = pp;
    ring_map(&r);
    flags = sq_word(&r, r.p.sq_off.flags);
    for (int i = 0; i < 20; i++) {
        entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, i);
        flush(&r);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (__atomic_load_n(flags, __ATOMIC_RELAXED) & IORING_SQ_NEED_WAKEUP)
            MUST(uring_enter(r.fd, 1, 0, IORING_ENTER_SQ_WAKEUP) == 1);
        MUST(take(&r).user_data == (uint64_t)i);
    }
    entry(&r, IORING_OP_WRITE, p[1], "abc", 3, 0, 30);
    flush(&r);
    SHOW(uring_enter(r.fd, 1, 1, IORING_ENTER_SQ_WAKEUP | IORING_ENTER_GETEVENTS));
    show(&r, 1);
    SHOW(read(p[0], b, 8));
    ring_free(&r);

    puts("large entries");
    r = ring_new(8, IORING_SETUP_SQE128 | IORING_SETUP_CQE32, 0);
    for (int i = 0; i < 20; i++) {
        entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, i);
        entry(&r, IORING_OP_WRITE, p[1], "ab", 2, 0, 100 + i);
        MUST(submit_wait(&r, 2) == 2);
        MUST(take(&r).user_data == (uint64_t)i);
        struct cqe c = take(&r);
        MUST(c.user_data == (uint64_t)(100 + i) && c.res == 2);
        MUST(read(p[0], b, 8) == 2);
    }
    ring_free(&r);
    puts("done");
    return done();
}
