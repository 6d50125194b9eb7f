// needs: threads
/* Rings, requests and the ends of threads and processes: fork, exec, exit, signals, threads that share a ring. */
#include "../uring.h"
#include <pthread.h>

static struct ring r;
static int p[2];
static char b[64];

static void *submitter(void *arg) {
    entry(&r, IORING_OP_READ, p[0], b, 8, 0, 1);
    MUST(submit(&r) == 1);
    return arg;
}
static void *waiter(void *arg) {
    struct cqe c;
    MUST(uring_enter(r.fd, 0, 1, IORING_ENTER_GETEVENTS) == 0);
    MUST(next(&r, &c));
    printf("waiter got %llu, %d\n", (unsigned long long)c.user_data, c.res);
    return arg;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        /* After exec: the ring was closed, the pipe is as it was. */
        int fd = atoi(argv[1]);
        SHOW(uring_enter(fd, 0, 0, 0));
        return done();
    }
    r = ring_new(16, 0, 0);
    MUST(pipe(p) == 0);
    /* A thread waits for what another one submits. */
    pthread_t t;
    MUST(pthread_create(&t, NULL, waiter, NULL) == 0);
    sleep_ms(20);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 5);
    MUST(submit(&r) == 1);
    pthread_join(t, NULL);
    /* A child uses its parent's ring: the memory is shared. */
    pid_t pid = fork();
    if (pid == 0) {
        entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 6);
        MUST(submit(&r) == 1);
        child_exit(0);
    }
    wait_show("child", pid);
    r.tail = *sq_word(&r, r.p.sq_off.tail);
    show(&r, 1);
    /* Its requests read into its own memory. */
    pid = fork();
    if (pid == 0) {
        entry(&r, IORING_OP_READ, p[0], b, 8, 0, 7);
        MUST(submit(&r) == 1);
        while (!ready(&r))
            sleep_ms(5);
        printf("child has %s\n", b);
        child_exit(strcmp(b, "child's"));
    }
    sleep_ms(30);
    MUST(write(p[1], "child's", 8) == 8);
    wait_show("child", pid);
    r.tail = *sq_word(&r, r.p.sq_off.tail);
    printf("parent has '%s'\n", b);
    show(&r, 1);
    /* A process that ends while its request waits. */
    pid = fork();
    if (pid == 0) {
        struct ring own = ring_new(4, 0, 0);
        entry(&own, IORING_OP_READ, p[0], b, 8, 0, 8);
        MUST(submit(&own) == 1);
        child_exit(0);
    }
    wait_show("child", pid);
    MUST(write(p[1], "kept", 5) == 5);
    SHOW(read(p[0], b, 64));
    /* One that used its parent's ring: its timeout is as it was, its read is cancelled once there is something. */
    pid = fork();
    if (pid == 0) {
        struct __kernel_timespec brief = {0, 500000000}; /* behind the child's end */
        entry(&r, IORING_OP_TIMEOUT, -1, &brief, 1, 0, 11);
        entry(&r, IORING_OP_POLL_ADD, r.fd, NULL, 0, 0, 12)->poll32_events = 1;
        MUST(submit(&r) == 2);
        child_exit(0);
    }
    wait_show("child", pid);
    r.tail = *sq_word(&r, r.p.sq_off.tail);
    show(&r, 2);
    /* One that is killed, with a request on its own ring and the ring in itself. */
    pid = fork();
    if (pid == 0) {
        struct ring own = ring_new(4, 0, 0);
        entry(&own, IORING_OP_POLL_ADD, own.fd, NULL, 0, 0, 8)->poll32_events = 1;
        MUST(submit(&own) == 1);
        raise(SIGKILL);
    }
    wait_show("child", pid);
    /* exec ends what was submitted, and closes the ring. */
    pid = fork();
    if (pid == 0) {
        char text[16];
        struct ring own = ring_new(4, 0, 0);
        entry(&own, IORING_OP_READ, p[0], b, 8, 0, 9);
        MUST(submit(&own) == 1);
        snprintf(text, sizeof text, "%d", own.fd);
        execl("/proc/self/exe", "self", text, NULL);
        _exit(9);
    }
    wait_show("child", pid);
    MUST(write(p[1], "exec", 5) == 5);
    SHOW(read(p[0], b, 64));
    /* The ring is closed while a request waits, and its memory is still mapped. */
    struct ring q = ring_new(4, 0, 0);
    entry(&q, IORING_OP_READ, p[0], b, 8, 0, 10);
    SHOW(submit(&q));
    munmap(q.sq, q.len);
    munmap(q.sqes, q.sqes_len);
    close(q.fd);
    /* Linux cancels it beside us, and nothing tells when. */
    sleep_ms(200);
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    ssize_t got;
    do /* if it was not yet, it takes the first */
        MUST(write(p[1], "closed", 7) == 7);
    while ((got = read(p[0], b, 64)) == -1);
    fcntl(p[0], F_SETFL, 0);
    SHOW(got);
    /* A thread's requests while it lives on. */
    MUST(pthread_create(&t, NULL, submitter, NULL) == 0);
    pthread_join(t, NULL);
    MUST(write(p[1], "thread", 7) == 7);
    struct cqe c = take(&r);
    /* The submitter has ended: its request is cancelled, now or when its turn came. */
    CHECK(c.user_data == 1 && (c.res == -ECANCELED || c.res == 7));
    ring_free(&r);
    return done();
}
