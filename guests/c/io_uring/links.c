/* Chains: links, hard links, what breaks them, limits of time, silent entries, drains. */
#include "../uring.h"

static struct ring r;
static void nop(int flags, int data) { entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, data)->flags = (uint8_t)flags; }

int main(void) {
    r = ring_new(32, 0, 0);
    char b[32];
    int p[2];
    struct __kernel_timespec brief = {0, 20000000}, longer = {30, 0};
    MUST(pipe(p) == 0);
    for (int i = 1; i < 5; i++)
        nop(IOSQE_IO_LINK, i);
    nop(0, 5);
    go(&r, "chain", 5);
    /* Broken by an error. */
    nop(IOSQE_IO_LINK, 1);
    entry(&r, IORING_OP_READ, 99, b, 1, 0, 2)->flags = IOSQE_IO_LINK;
    nop(IOSQE_IO_LINK, 3);
    nop(0, 4);
    go(&r, "broken", 4);
    nop(IOSQE_IO_HARDLINK, 1);
    entry(&r, IORING_OP_READ, 99, b, 1, 0, 2)->flags = IOSQE_IO_HARDLINK;
    nop(IOSQE_IO_HARDLINK, 3);
    nop(0, 4);
    go(&r, "hard", 4);
    nop(IOSQE_IO_HARDLINK, 1);
    entry(&r, 200, -1, NULL, 0, 0, 2)->flags = IOSQE_IO_HARDLINK;
    nop(0, 3);
    go(&r, "hard, and wrong", 3);
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 1)->flags = IOSQE_IO_HARDLINK;
    nop(0, 2);
    SHOW(submit(&r));
    entry(&r, IORING_OP_ASYNC_CANCEL, -1, (void *)1, 0, 0, 3);
    go(&r, "hard, and cancelled", 3);
    /* By a short read. */
    put_file("f", "123");
    int f = open("f", O_RDONLY);
    entry(&r, IORING_OP_READ, f, b, 10, 0, 1)->flags = IOSQE_IO_LINK;
    nop(0, 2);
    go(&r, "short read", 2);
    entry(&r, IORING_OP_READ, f, b, 3, 0, 1)->flags = IOSQE_IO_LINK;
    nop(0, 2);
    go(&r, "whole read", 2);
    /* By an entry that is wrong: the whole chain does not begin. */
    nop(IOSQE_IO_LINK, 1);
    entry(&r, 200, -1, NULL, 0, 0, 2)->flags = IOSQE_IO_LINK;
    nop(0, 3);
    nop(0, 4);
    go(&r, "wrong inside", 4);
    nop(IOSQE_IO_LINK, 1);
    entry(&r, 200, -1, NULL, 0, 0, 2);
    nop(0, 3);
    go(&r, "wrong at the end", 2);
    SHOW(uring_enter(r.fd, 1, 1, IORING_ENTER_GETEVENTS));
    show(&r, 1);
    /* The next one waits for the first. */
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 1)->flags = IOSQE_IO_LINK;
    nop(0, 2);
    nop(0, 3);
    go(&r, "waits", 1);
    printf("ready %u\n", ready(&r));
    MUST(write(p[1], "x", 1) == 1);
    show(&r, 2);
    /* A chain that the submission's end closes. */
    nop(IOSQE_IO_LINK, 1);
    go(&r, "open end", 1);
    /* Silent ones. */
    nop(IOSQE_CQE_SKIP_SUCCESS, 1);
    nop(0, 2);
    entry(&r, IORING_OP_READ, 99, b, 1, 0, 3)->flags = IOSQE_CQE_SKIP_SUCCESS;
    go(&r, "silent", 2);
    printf("ready %u\n", ready(&r));
    nop(IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK, 1);
    entry(&r, IORING_OP_READ, 99, b, 1, 0, 2)->flags = IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK;
    nop(IOSQE_IO_LINK, 3);
    nop(0, 4);
    go(&r, "silent failure", 1);
    printf("ready %u\n", ready(&r));

    /* Limits of time. */
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 1)->flags = IOSQE_IO_LINK;
    entry(&r, IORING_OP_LINK_TIMEOUT, -1, &brief, 1, 0, 2);
    go(&r, "limit passed", 2);
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 1)->flags = IOSQE_IO_LINK;
    entry(&r, IORING_OP_LINK_TIMEOUT, -1, &longer, 1, 0, 2);
    SHOW(submit(&r));
    MUST(write(p[1], "y", 1) == 1);
    show(&r, 2);
    nop(IOSQE_IO_LINK, 1);
    entry(&r, IORING_OP_LINK_TIMEOUT, -1, &longer, 1, 0, 2);
    go(&r, "limit of what is over", 2);
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 1)->flags = IOSQE_IO_LINK;
    entry(&r, IORING_OP_LINK_TIMEOUT, -1, &brief, 1, 0, 2)->flags = IOSQE_IO_LINK;
    nop(0, 3);
    go(&r, "limit passed in a chain", 3);
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 1)->flags = IOSQE_IO_LINK;
    entry(&r, IORING_OP_LINK_TIMEOUT, -1, &longer, 1, 0, 2)->flags = IOSQE_IO_LINK;
    nop(0, 3);
    SHOW(submit(&r));
    MUST(write(p[1], "z", 1) == 1);
    show(&r, 3);
    entry(&r, IORING_OP_LINK_TIMEOUT, -1, &brief, 1, 0, 1);
    go(&r, "limit of nothing", 1);
    nop(IOSQE_IO_LINK, 1);
    entry(&r, IORING_OP_LINK_TIMEOUT, -1, &longer, 1, 0, 2)->flags = IOSQE_IO_LINK;
    entry(&r, IORING_OP_LINK_TIMEOUT, -1, &longer, 1, 0, 3);
    go(&r, "limit of a limit", 3);

    /* Drains: not in a ring that has had silent entries. */
    nop(IOSQE_IO_DRAIN, 1);
    go(&r, "drain", 1);
    ring_free(&r);
    r = ring_new(32, 0, 0);
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 1);
    nop(IOSQE_IO_DRAIN, 2);
    nop(0, 3);
    SHOW(submit(&r));
    printf("ready %u\n", ready(&r));
    MUST(write(p[1], "d", 1) == 1);
    for (int i = 0; i < 3; i++) {
        struct cqe c = take(&r);
        print_cqe(&c);
    }
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 1);
    nop(IOSQE_IO_LINK, 2);
    nop(IOSQE_IO_DRAIN, 3);
    nop(0, 4);
    SHOW(submit(&r));
    printf("ready %u\n", ready(&r));
    MUST(write(p[1], "d", 1) == 1);
    for (int i = 0; i < 4; i++) {
        struct cqe c = take(&r);
        print_cqe(&c);
    }
    nop(IOSQE_IO_DRAIN, 1);
    nop(IOSQE_IO_DRAIN, 2);
    go(&r, "nothing to drain", 2);
    /* A long chain ends in order. */
    for (int i = 0; i < 32; i++)
        nop(i < 31 ? IOSQE_IO_LINK : 0, i);
    SHOW(submit(&r));
    bool good = true;
    for (int i = 0; i < 32; i++)
        good &= take(&r).user_data == (uint64_t)i;
    CHECK(good);
    ring_free(&r);
    return done();
}
