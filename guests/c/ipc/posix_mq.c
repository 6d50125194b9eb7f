// modes: static dynamic musl
// POSIX message queues: attributes, priorities, nonblocking, timeouts, limits, notification by signal.
#include "../common.h"
#include <mqueue.h>

static volatile sig_atomic_t notified;
static void handler(int s, siginfo_t *i, void *u) {
    (void)s, (void)u;
    notified = i->si_value.sival_int;
}

int main(void) {
    char name[64], b[64];
    unsigned prio;
    snprintf(name, sizeof name, "/ftl-mq-%d", getpid());
    CHECK(mq_open(name, O_RDWR) == -1 && errno == ENOENT);
    struct mq_attr a = {.mq_maxmsg = 4, .mq_msgsize = 32};
    mqd_t q = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &a);
    CHECK(q != -1);
    MUST(mq_getattr(q, &a) == 0);
    printf("flags %ld max %ld size %ld now %ld\n", a.mq_flags, a.mq_maxmsg, a.mq_msgsize, a.mq_curmsgs);
    SHOW(mq_receive(q, b, sizeof b, &prio));
    SHOW(mq_send(q, "low", 4, 1));
    SHOW(mq_send(q, "high", 5, 9));
    SHOW(mq_send(q, "middle", 7, 5));
    SHOW(mq_send(q, "low too", 8, 1));
    SHOW(mq_send(q, "full", 5, 1));
    for (int i = 0; i < 4; i++) {
        MUST(mq_receive(q, b, sizeof b, &prio) > 0);
        printf("%s %u\n", b, prio);
    }
    SHOW(mq_receive(q, b, 10, &prio));
    SHOW(mq_send(q, b, 33, 1));
    SHOW(mq_send(q, "x", 1, 100000));
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGUSR1, &sa, NULL);
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 55};
    SHOW(mq_notify(q, &ev));
    SHOW(mq_notify(q, &ev));
    pid_t p = fork();
    if (p == 0) {
        mqd_t o = mq_open(name, O_WRONLY);
        child_exit(mq_send(o, "from child", 11, 0));
    }
    wait_show("child", p);
    while (!notified)
        sleep_ms(1);
    SHOW(notified);
    SHOW(mq_receive(q, b, sizeof b, NULL));
    mqd_t w = mq_open(name, O_RDWR);
    struct timespec past = {1, 0};
    SHOW(mq_timedreceive(w, b, sizeof b, NULL, &past));
    SHOW(mq_unlink(name));
    SHOW(mq_unlink(name));
    SHOW(mq_close(q));
    return done();
}
