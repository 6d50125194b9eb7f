// needs: threads
/* Requests that wait for a pipe or an eventfd: from this thread, from others, beside O_NONBLOCK; splice and tee. */
#include "../uring.h"
#include <pthread.h>
#include <sys/eventfd.h>

static int p[2];
static void *later(void *arg) {
    sleep_ms(30);
    MUST(write(p[1], arg, strlen(arg)) == (ssize_t)strlen(arg));
    return NULL;
}

int main(void) {
    struct ring r = ring_new(16, 0, 0);
    char b[64] = "", c[8];
    MUST(pipe(p) == 0);
    entry(&r, IORING_OP_READ, p[0], b, 8, 0, 1);
    SHOW(submit(&r));
    printf("ready %u\n", ready(&r));
    MUST(write(p[1], "abc", 3) == 3);
    show(&r, 1);
    /* Two readers: one byte for each. */
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 1);
    entry(&r, IORING_OP_READ, p[0], b + 8, 1, 0, 2);
    SHOW(submit(&r));
    MUST(write(p[1], "xy", 2) == 2);
    show(&r, 2);
    CHECK(b[0] + b[8] == 'x' + 'y');
    /* Another thread writes while this one waits. */
    pthread_t t;
    MUST(pthread_create(&t, NULL, later, "later") == 0);
    entry(&r, IORING_OP_READ, p[0], b, 64, 0, 3);
    SHOW(submit_wait(&r, 1));
    show(&r, 1);
    pthread_join(t, NULL);
    /* O_NONBLOCK is no reason not to wait; RWF_NOWAIT is. */
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 4);
    SHOW(submit(&r));
    printf("ready %u, read %zd %s\n", ready(&r), read(p[0], c, 1), err_name(errno));
    CHECK(fcntl(p[0], F_GETFL) & O_NONBLOCK);
    MUST(write(p[1], "n", 1) == 1);
    show(&r, 1);
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 5)->rw_flags = RWF_NOWAIT;
    go(&r, "nowait", 1);
    fcntl(p[0], F_SETFL, 0);
    /* The descriptor may go: the request keeps the file. */
    int d = dup(p[0]);
    entry(&r, IORING_OP_READ, d, b, 1, 0, 6);
    SHOW(submit(&r));
    close(d);
    MUST(write(p[1], "k", 1) == 1);
    show(&r, 1);
    /* A full pipe. */
    fcntl(p[1], F_SETPIPE_SZ, 4096);
    static char page[4096];
    MUST(write(p[1], page, 4096) == 4096);
    entry(&r, IORING_OP_WRITE, p[1], "w", 1, 0, 7);
    SHOW(submit(&r));
    printf("ready %u\n", ready(&r));
    MUST(read(p[0], page, 4096) == 4096);
    show(&r, 1);
    MUST(read(p[0], page, 1) == 1);
    /* The end of file. */
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 8);
    SHOW(submit(&r));
    close(p[1]);
    show(&r, 1);
    close(p[0]);
    MUST(pipe(p) == 0);
    close(p[0]);
    signal(SIGPIPE, SIG_IGN);
    entry(&r, IORING_OP_WRITE, p[1], "w", 1, 0, 9);
    go(&r, "nobody reads", 1);
    close(p[1]);
    int e = eventfd(0, 0);
    uint64_t v = 0, one = 1;
    entry(&r, IORING_OP_READ, e, &v, 8, 0, 10);
    SHOW(submit(&r));
    entry(&r, IORING_OP_WRITE, e, &one, 8, 0, 11);
    go(&r, "eventfd", 2);
    printf("counted %llu\n", (unsigned long long)v);

    int q[2];
    MUST(pipe(p) == 0 && pipe(q) == 0);
    struct io_uring_sqe *s = entry(&r, IORING_OP_SPLICE, q[1], (void *)-1, 10, -1, 1);
    s->splice_fd_in = p[0];
    SHOW(submit(&r));
    printf("ready %u\n", ready(&r));
    MUST(write(p[1], "0123456789", 10) == 10);
    show(&r, 1);
    s = entry(&r, IORING_OP_TEE, p[1], NULL, 4, 0, 1);
    s->splice_fd_in = q[0];
    go(&r, "tee", 1);
    memset(b, 0, sizeof b);
    MUST(read(p[0], b, 64) == 4);
    puts(b);
    put_file("f", "from a file");
    int f = open("f", O_RDWR);
    s = entry(&r, IORING_OP_SPLICE, p[1], (void *)5, 6, -1, 1);
    s->splice_fd_in = f;
    go(&r, "splice from a file", 1);
    memset(b, 0, sizeof b);
    MUST(read(p[0], b, 64) == 6);
    puts(b);
    s = entry(&r, IORING_OP_SPLICE, p[1], (void *)5, 6, -1, 1);
    s->splice_fd_in = q[0];
    go(&r, "offset of a pipe", 1);
    s = entry(&r, IORING_OP_SPLICE, p[1], (void *)-1, 6, -1, 1);
    s->splice_fd_in = 99;
    go(&r, "no such file", 1);
    s = entry(&r, IORING_OP_SPLICE, p[1], (void *)-1, 6, -1, 1);
    s->splice_flags = 1 << 20;
    go(&r, "flags", 1);
    ring_free(&r);
    return done();
}
