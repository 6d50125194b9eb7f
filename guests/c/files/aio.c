// needs: threads
/* Native asynchronous I/O: io_setup, io_submit, io_getevents, io_pgetevents, io_cancel, io_destroy. */
#include "../common.h"
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

static long setup(unsigned n, aio_context_t *c) { return syscall(SYS_io_setup, n, c); }
static long destroy(aio_context_t c) { return syscall(SYS_io_destroy, c); }
static long submit(aio_context_t c, long n, struct iocb **l) { return syscall(SYS_io_submit, c, n, l); }
static long getevents(aio_context_t c, long min, long n, struct io_event *e, struct timespec *t) {
    return syscall(SYS_io_getevents, c, min, n, e, t);
}
static struct iocb make(int op, int fd, void *buf, size_t n, long off, long data) {
    struct iocb c;
    memset(&c, 0, sizeof c);
    c.aio_lio_opcode = op;
    c.aio_fildes = fd;
    c.aio_buf = (uintptr_t)buf;
    c.aio_nbytes = n;
    c.aio_offset = off;
    c.aio_data = data;
    return c;
}
static int pipes[2];
static void *later(void *arg) {
    usleep(30000);
    MUST(write(pipes[1], "x", 1) == 1);
    return arg;
}
static void on_alarm(int s) { (void)s; }

int main(void) {
    aio_context_t c = 0, bad = 1;
    SHOW(setup(0, &c));
    SHOW(setup(8, &bad));
    SHOW(setup(8, NULL));
    SHOW(setup(8, &c));
    CHECK(c != 0);
    int fd = open("f", O_CREAT | O_RDWR | O_TRUNC, 0644);
    MUST(fd >= 0);
    char out[] = "hello, world", in[32] = "";
    struct iocb w = make(IOCB_CMD_PWRITE, fd, out, 12, 0, 11), r = make(IOCB_CMD_PREAD, fd, in, 5, 7, 12);
    struct iocb *one[] = {&w}, *two[] = {&w, &r};
    struct io_event e[8];
    struct timespec zero = {0, 0}, brief = {0, 20000000};
    SHOW(submit(c, 1, one));
    SHOW(getevents(c, 1, 8, e, NULL));
    printf("%ld %ld %d\n", (long)e[0].data, (long)e[0].res, e[0].obj == (uintptr_t)&w);
    SHOW(submit(c, 2, two));
    long n = 0;
    while (n < 2)
        n += getevents(c, 1, 8, e + n, NULL);
    CHECK(strcmp(in, "world") == 0);
    long sum = 0;
    for (int i = 0; i < 2; i++)
        sum += e[i].res * 100 + e[i].data;
    printf("%ld\n", sum);
    struct iovec v[2] = {{in, 3}, {in + 16, 9}};
    struct iocb rv = make(IOCB_CMD_PREADV, fd, v, 2, 0, 13);
    struct iocb *l[] = {&rv};
    SHOW(submit(c, 1, l));
    SHOW(getevents(c, 1, 1, e, NULL));
    printf("%ld %.3s %.9s\n", (long)e[0].res, in, in + 16);

    struct iocb bads[] = {
        make(IOCB_CMD_PREAD, 77, in, 1, 0, 0), make(99, fd, in, 1, 0, 0), make(IOCB_CMD_PREAD, fd, in, 1, -1, 0),
        make(IOCB_CMD_NOOP, fd, in, 0, 0, 0),  make(IOCB_CMD_FSYNC, fd, in, 0, 0, 0),
    };
    for (unsigned i = 0; i < sizeof bads / sizeof *bads; i++) {
        l[0] = &bads[i];
        SHOW(submit(c, 1, l));
    }
    int ro = open("f", O_RDONLY);
    struct iocb wr = make(IOCB_CMD_PWRITE, ro, out, 1, 0, 0);
    l[0] = &wr;
    SHOW(submit(c, 1, l));
    l[0] = NULL;
    SHOW(submit(c, 1, l));
    SHOW(submit(c, -1, l));
    SHOW(submit(c, 0, l));
    struct iocb *mixed[] = {&w, &bads[0]};
    SHOW(submit(c, 2, mixed));
    SHOW(getevents(c, 1, 4, e, NULL));
    struct iocb sync = make(IOCB_CMD_FSYNC, fd, NULL, 0, 0, 5);
    l[0] = &sync;
    SHOW(submit(c, 1, l));
    SHOW(getevents(c, 1, 4, e, NULL));
    printf("sync %ld\n", (long)e[0].res);

    SHOW(getevents(c, 0, 8, e, &zero));
    SHOW(getevents(c, 1, 8, e, &zero));
    SHOW(getevents(c, 1, 8, e, &brief));
    SHOW(getevents(c, 3, 2, e, &zero));
    SHOW(getevents(c, -1, 2, e, &zero));
    SHOW(getevents(c + 4096, 1, 2, e, &zero));

    /* An eventfd is told. */
    int ev = eventfd(0, EFD_NONBLOCK);
    w.aio_flags = IOCB_FLAG_RESFD;
    w.aio_resfd = ev;
    SHOW(submit(c, 1, one));
    struct pollfd p = {ev, POLLIN, 0};
    SHOW(poll(&p, 1, 60000));
    uint64_t count = 0;
    MUST(read(ev, &count, 8) == 8);
    printf("count %lu\n", (unsigned long)count);
    SHOW(getevents(c, 1, 1, e, NULL));
    w.aio_resfd = fd;
    SHOW(submit(c, 1, one));
    w.aio_flags = 0;

    /* Polls wait. */
    MUST(pipe(pipes) == 0);
    struct iocb pl = make(IOCB_CMD_POLL, pipes[0], (void *)POLLIN, 0, 0, 21);
    l[0] = &pl;
    SHOW(submit(c, 1, l));
    SHOW(getevents(c, 0, 8, e, &zero));
    pthread_t t;
    MUST(pthread_create(&t, NULL, later, NULL) == 0);
    SHOW(getevents(c, 1, 8, e, NULL));
    printf("poll %lx %ld\n", (long)e[0].res & POLLIN, (long)e[0].data);
    pthread_join(t, NULL);
    SHOW(submit(c, 1, l));
    SHOW(getevents(c, 1, 8, e, NULL));
    MUST(read(pipes[0], in, 1) == 1);
    SHOW(submit(c, 1, l));
    SHOW(syscall(SYS_io_cancel, c, &pl, e));
    SHOW(getevents(c, 1, 8, e, NULL));
    printf("cancelled %ld\n", (long)e[0].res);
    SHOW(syscall(SYS_io_cancel, c, &pl, e));

    /* A signal ends the wait. */
    struct sigaction sa = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval it = {{0, 20000}, {0, 20000}}, off = {{0, 0}, {0, 0}}; /* again, should one come before the call waits */
    setitimer(ITIMER_REAL, &it, NULL);
    SHOW(getevents(c, 1, 8, e, NULL));
    setitimer(ITIMER_REAL, &off, NULL);
    sigset_t block, old;
    sigemptyset(&block);
    sigaddset(&block, SIGALRM);
    sigprocmask(SIG_BLOCK, &block, &old);
    raise(SIGALRM);
    struct { const sigset_t *s; size_t n; } mask = {&old, 8};
    SHOW(syscall(333, c, 1L, 8L, e, NULL, &mask));
    SHOW(syscall(333, c, 0L, 8L, e, &zero, NULL));

    /* The contexts are the process', not its child's. */
    pid_t pid = fork();
    if (pid == 0)
        child_exit(destroy(c) == -1 && errno == EINVAL ? 0 : 1);
    int st;
    MUST(waitpid(pid, &st, 0) == pid);
    CHECK(st == 0);
    SHOW(destroy(c));
    SHOW(destroy(c));
    SHOW(submit(c, 1, one));
    return done();
}
