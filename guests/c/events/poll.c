// modes: static dynamic musl
// poll: readiness of pipes, files, closed ends, bad descriptors; timeouts; negative entries; many descriptors.
#include "../common.h"
#include <poll.h>

static void show(const char *what, int fd, short events) {
    struct pollfd p = {fd, events, 0};
    int r = poll(&p, 1, 0);
    printf("%s: %d revents %#x\n", what, r, p.revents);
}

int main(void) {
    int p[2], q[2];
    MUST(pipe(p) == 0 && pipe(q) == 0);
    show("empty pipe, read end", p[0], POLLIN);
    show("empty pipe, write end", p[1], POLLOUT);
    show("read end asked for writing", p[0], POLLOUT);
    MUST(write(p[1], "x", 1) == 1);
    show("pipe with data", p[0], POLLIN | POLLPRI | POLLRDNORM);
    fcntl(q[1], F_SETFL, O_NONBLOCK);
    static char big[65536];
    MUST(write(q[1], big, sizeof big) == sizeof big);
    show("full pipe", q[1], POLLOUT);
    close(p[1]);
    show("data and closed", p[0], POLLIN);
    char c;
    MUST(read(p[0], &c, 1) == 1);
    show("closed", p[0], POLLIN);
    show("closed, nothing asked", p[0], 0);
    close(q[0]);
    show("no reader", q[1], POLLOUT);
    put_file("f", "x");
    int f = open("f", O_RDWR);
    show("file", f, POLLIN | POLLOUT);
    show("directory", open(".", O_RDONLY), POLLIN);
    show("/dev/null", open("/dev/null", O_RDWR), POLLIN | POLLOUT);
    show("bad descriptor", 99, POLLIN);
    show("negative", -1, POLLIN);
    show("POLLNVAL has no events", -5, 0);
    int64_t start = now_ns(CLOCK_MONOTONIC);
    MUST(pipe(p) == 0);
    struct pollfd pf = {p[0], POLLIN, 0};
    SHOW(poll(&pf, 1, 4));
    CHECK(now_ns(CLOCK_MONOTONIC) - start >= 4000000);
    SHOW(poll(NULL, 0, 1));
    SHOW(syscall(SYS_poll, BAD, 1, 0));
    SHOW(poll(&pf, 1 << 30, 0));
    pid_t k = fork();
    if (k == 0) {
        sleep_ms(3);
        MUST(write(p[1], "x", 1) == 1);
        _exit(0);
    }
    SHOW(poll(&pf, 1, -1));
    SHOW(pf.revents);
    wait_show("writer", k);
    static struct pollfd many[300];
    int n = 0;
    for (int i = 0; i < 300; i += 2) {
        MUST(pipe(p) == 0);
        many[i] = (struct pollfd){p[0], POLLIN, 0};
        many[i + 1] = (struct pollfd){p[1], POLLOUT, 0};
        if (i % 3 == 0) {
            MUST(write(p[1], "x", 1) == 1);
            n++;
        }
    }
    SHOW(n);
    SHOW(poll(many, 300, 1000));
    struct timespec t = {0, 1000000}, bad = {0, -1};
    SHOW(ppoll(&pf, 0, &t, NULL));
    SHOW(ppoll(&pf, 0, &bad, NULL));
    return done();
}
