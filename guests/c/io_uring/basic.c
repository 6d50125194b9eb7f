/* io_uring_setup, the rings' memory, NOPs, entries that are refused, what io_uring_enter returns. */
#include "../uring.h"
#include <poll.h>

static void refuse(const char *what, unsigned n, unsigned flags, unsigned cq) {
    struct io_uring_params p;
    memset(&p, 0, sizeof p);
    p.flags = flags;
    p.cq_entries = cq;
    int fd = uring_setup(n, &p);
    if (fd < 0)
        printf("%s: %s\n", what, err_name(errno));
    else
        printf("%s: sq %u cq %u\n", what, p.sq_entries, p.cq_entries), close(fd);
}

int main(void) {
    refuse("none", 0, 0, 0);
    refuse("one", 1, 0, 0);
    refuse("five", 5, 0, 0);
    refuse("too many", 32769, 0, 0);
    refuse("clamped", 40000, IORING_SETUP_CLAMP, 0);
    refuse("cq size", 8, IORING_SETUP_CQSIZE, 100);
    refuse("cq none", 8, IORING_SETUP_CQSIZE, 0);
    refuse("cq less", 8, IORING_SETUP_CQSIZE, 4);
    refuse("cq clamped", 8, IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP, 1u << 20);
    refuse("cq too many", 8, IORING_SETUP_CQSIZE, 1u << 20);
    refuse("unknown flag", 8, 1u << 31, 0);
    refuse("affinity alone", 8, IORING_SETUP_SQ_AFF, 0);
    refuse("flag alone", 8, IORING_SETUP_TASKRUN_FLAG, 0);
    refuse("coop", 8, IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_COOP_TASKRUN, 0);
    refuse("defer alone", 8, IORING_SETUP_DEFER_TASKRUN, 0);
    SHOW(uring_setup(8, BAD));
    struct ring r = ring_new(4, 0, 0);
    printf("features %x\n", r.p.features & 0x1fff);
    printf("entries %u %u, masks %u %u\n", *sq_word(&r, r.p.sq_off.ring_entries), *cq_word(&r, r.p.cq_off.ring_entries),
           *sq_word(&r, r.p.sq_off.ring_mask), *cq_word(&r, r.p.cq_off.ring_mask));
    CHECK(fcntl(r.fd, F_GETFD) == FD_CLOEXEC);
    char b[8];
    SHOW(read(r.fd, b, 8));
    SHOW(write(r.fd, b, 8));
    SHOW(lseek(r.fd, 0, SEEK_SET));
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, r.fd, 0x18000000) == MAP_FAILED);
    char *cq = mmap(NULL, r.len, PROT_READ | PROT_WRITE, MAP_SHARED, r.fd, IORING_OFF_CQ_RING);
    CHECK(cq != MAP_FAILED && memcmp(cq, r.sq, r.len) == 0);

    SHOW(uring_enter(r.fd, 0, 0, 0));
    SHOW(uring_enter(r.fd, 3, 0, 0));
    SHOW(uring_enter(-1, 0, 0, 0));
    SHOW(uring_enter(0, 0, 0, 0));
    SHOW(uring_enter(r.fd, 0, 0, 1u << 20));
    struct pollfd pf = {r.fd, POLLIN | POLLOUT, 0};
    SHOW(poll(&pf, 1, 0));
    printf("revents %x\n", pf.revents);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 11);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 22);
    go(&r, "nops", 0);
    SHOW(poll(&pf, 1, 0));
    printf("revents %x, ready %u, head %u\n", pf.revents, ready(&r), *sq_word(&r, r.p.sq_off.head));
    show(&r, 2);
    for (int i = 0; i < 4; i++)
        entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 30 + i);
    flush(&r);
    SHOW(poll(&pf, 1, 0));
    printf("revents %x\n", pf.revents);
    SHOW(uring_enter(r.fd, 2, 0, 0));
    SHOW(uring_enter(r.fd, 100, 2, IORING_ENTER_GETEVENTS));
    show(&r, 4);
    /* What is wrong stops the submission after it. */
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
    entry(&r, 200, -1, NULL, 0, 0, 2);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 3);
    go(&r, "unknown operation", 2);
    go(&r, "the rest", 0);
    SHOW(uring_enter(r.fd, 1, 1, IORING_ENTER_GETEVENTS));
    show(&r, 1);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 4)->flags = 0x80;
    go(&r, "unknown flag", 1);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 5)->ioprio = 1;
    go(&r, "priority", 1);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 6)->personality = 9;
    go(&r, "personality", 1);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 7)->flags = IOSQE_BUFFER_SELECT;
    go(&r, "buffer", 1);
    entry(&r, IORING_OP_READ, 77, b, 8, 0, 8);
    go(&r, "descriptor", 1);
    entry(&r, IORING_OP_READ, 0, b, 8, 0, 9)->flags = IOSQE_FIXED_FILE;
    go(&r, "slot", 1);
    /* An index that leads nowhere. */
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 10);
    sq_word(&r, r.p.sq_off.array)[(r.tail - 1) & 3] = 99;
    SHOW(submit(&r));
    printf("dropped %u, ready %u\n", *sq_word(&r, r.p.sq_off.dropped), ready(&r));
    /* Many times round. */
    bool good = true;
    for (int i = 0; i < 1000; i++) {
        entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, i);
        good &= submit_wait(&r, 1) == 1 && take(&r).user_data == (uint64_t)i;
    }
    CHECK(good);
    ring_free(&r);

    r = ring_new(8, IORING_SETUP_SUBMIT_ALL, 0);
    for (int i = 0; i < 4; i++)
        entry(&r, i == 1 ? 200 : IORING_OP_NOP, -1, NULL, 0, 0, i);
    go(&r, "submit all", 4);
    ring_free(&r);
    return done();
}
