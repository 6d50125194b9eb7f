// modes: static dynamic musl
// Pipes and FIFOs: poll in every state, sizes, packet mode by fcntl, open's waiting, blocked calls and signals.
#include "../common.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

static char big[1 << 20];

static void ready(const char *what, int fd) {
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM, 0};
    poll(&p, 1, 0);
    printf("%s: %x\n", what, p.revents);
}

static void on_signal(int s) { (void)s; }

/* SIGALRM at this interval, so that one that comes before a call waits is followed by another; 0: no more. */
static void alarms(int us) {
    struct itimerval it = {{0, us}, {0, us}};
    setitimer(ITIMER_REAL, &it, NULL);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    int p[2], n;
    char b[8192];
    MUST(pipe2(p, O_NONBLOCK) == 0);
    ready("read end", p[0]);
    ready("write end", p[1]);
    SHOW(read(p[1], b, 1));
    SHOW(write(p[0], b, 1));
    SHOW(lseek(p[0], 0, SEEK_SET));
    SHOW(pread(p[0], b, 1, 0));
    SHOW(ftruncate(p[1], 0));
    SHOW(fsync(p[1]));
    struct stat st;
    MUST(fstat(p[0], &st) == 0);
    printf("mode %o links %d size %d blksize %d\n", st.st_mode, (int)st.st_nlink, (int)st.st_size, (int)st.st_blksize);
    SHOW(fcntl(p[0], F_GETFL) & O_ACCMODE);
    SHOW(fcntl(p[1], F_GETFL) & O_ACCMODE);
    SHOW(fcntl(p[0], F_GETPIPE_SZ));
    SHOW(fcntl(p[0], F_SETPIPE_SZ, 1));
    SHOW(fcntl(p[0], F_SETPIPE_SZ, 4097));
    SHOW(fcntl(p[0], F_SETPIPE_SZ, 1 << 20));
    SHOW(fcntl(p[0], F_SETPIPE_SZ, -1));
    SHOW(fcntl(p[0], F_SETPIPE_SZ, 8192));
    SHOW(write(p[1], big, 10000));
    ready("full", p[1]);
    SHOW(write(p[1], big, 1));
    SHOW(fcntl(p[0], F_SETPIPE_SZ, 4096));
    SHOW(ioctl(p[1], FIONREAD, &n));
    printf("%d\n", n);
    SHOW(read(p[0], b, 4095));
    ready("nearly a page free", p[1]);
    SHOW(read(p[0], b, 1));
    ready("a page free", p[1]);
    SHOW(fcntl(p[0], F_GETPIPE_SZ));
    SHOW(write(p[1], big, 5000));
    SHOW(read(p[0], big, 100000));
    SHOW(read(p[0], b, 0));
    SHOW(write(p[1], b, 0));
    SHOW(fcntl(eventfd(0, 0), F_GETPIPE_SZ));

    SHOW(fcntl(p[1], F_SETFL, O_NONBLOCK | O_DIRECT));
    SHOW((fcntl(p[1], F_GETFL) & O_DIRECT) != 0);
    SHOW(write(p[1], "packet", 6));
    SHOW(write(p[1], "two", 3));
    SHOW(read(p[0], b, 3));
    SHOW(read(p[0], b, 100));
    SHOW(fcntl(p[1], F_SETFL, O_NONBLOCK));
    SHOW(write(p[1], "a", 1));
    SHOW(write(p[1], "b", 1));
    SHOW(read(p[0], b, 100));
    struct iovec v[3] = {{"one", 3}, {"", 0}, {"three", 5}};
    SHOW(writev(p[1], v, 3));
    struct iovec r[2] = {{b, 2}, {b + 10, 100}};
    SHOW(readv(p[0], r, 2));
    SHOW(writev(p[1], v, -1));
    SHOW(writev(p[1], v, 2000));
    SHOW(write(p[1], BAD, 10));
    SHOW(write(p[1], "x", 1));
    SHOW(read(p[0], BAD, 10));
    SHOW(read(p[0], b, 10));
    close(p[0]);
    ready("no reader", p[1]);
    SHOW(write(p[1], "x", 1));
    SHOW(write(p[1], "x", 0));
    close(p[1]);
    SHOW(pipe2(p, 0x1));
    SHOW(syscall(SYS_pipe2, BAD, 0));

    MUST(mkfifo("ff", 0600) == 0);
    SHOW(open("ff", O_WRONLY | O_NONBLOCK));
    int r1 = open("ff", O_RDONLY | O_NONBLOCK);
    ready("reader before any writer", r1);
    SHOW(read(r1, b, 1));
    int w1 = open("ff", O_WRONLY | O_NONBLOCK);
    ready("reader with a writer", r1);
    SHOW(read(r1, b, 1));
    SHOW(write(w1, "data", 4));
    close(w1);
    ready("writer left data", r1);
    SHOW(read(r1, b, 10));
    ready("writer gone", r1);
    SHOW(read(r1, b, 10));
    w1 = open("ff", O_WRONLY);
    ready("a new writer", r1);
    close(r1);
    ready("reader gone", w1);
    close(w1);
    int rw = open("ff", O_RDWR);
    ready("both in one", rw);
    SHOW(write(rw, "self", 4));
    ready("with data", rw);
    close(rw);
    rw = open("ff", O_RDWR | O_NONBLOCK);
    SHOW(read(rw, b, 10));
    MUST(fstat(rw, &st) == 0);
    printf("mode %o\n", st.st_mode);
    close(rw);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        int w = open("ff", O_WRONLY);
        MUST(write(w, "hello", 5) == 5);
        close(w);
        child_exit(0);
    }
    int rd = open("ff", O_RDONLY);
    SHOW(read(rd, b, 10));
    SHOW(read(rd, b, 10));
    wait_show("writer", pid);
    close(rd);

    /* A blocked open, read and write end with EINTR. */
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGALRM, &sa, NULL);
    alarms(10000);
    SHOW(open("ff", O_RDONLY));
    alarms(0);
    SHOW(open("ff", O_WRONLY | O_NONBLOCK));
    MUST(pipe(p) == 0);
    alarms(10000);
    SHOW(read(p[0], b, 1));
    alarms(10000);
    SHOW(write(p[1], big, sizeof big));
    alarms(10000);
    SHOW(write(p[1], big, 1));
    alarms(0);
    close(p[0]), close(p[1]);

    /* eventfd at its limit. */
    int e = eventfd(0, EFD_NONBLOCK);
    uint64_t x = UINT64_MAX - 1;
    SHOW(write(e, &x, 8));
    ready("at the limit", e);
    x = 1;
    SHOW(write(e, &x, 8));
    x = 0;
    SHOW(write(e, &x, 8));
    x = UINT64_MAX;
    SHOW(write(e, &x, 8));
    SHOW(write(e, &x, 4));
    SHOW(read(e, &x, 4));
    SHOW(read(e, b, 16));
    ready("read", e);
    SHOW(read(e, &x, 8));
    SHOW(eventfd(0, 8));
    SHOW(pread(e, &x, 8, 0));
    return done();
}
