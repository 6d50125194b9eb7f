/* Completions that do not fit into their ring are kept, in order. */
#include "../uring.h"
#include <poll.h>

int main(void) {
    struct ring r = ring_new(8, IORING_SETUP_CQSIZE, 8);
    unsigned *flags = sq_word(&r, r.p.sq_off.flags);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 8; i++)
            entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, round * 8 + i);
        SHOW(submit(&r));
    }
    printf("ready %u, overflow %u, flag %d\n", ready(&r), *cq_word(&r, r.p.cq_off.overflow),
           !!(*flags & IORING_SQ_CQ_OVERFLOW));
    struct cqe c;
    uint64_t want = 0;
    bool good = true;
    while (next(&r, &c))
        good &= c.user_data == want++;
    printf("taken %d\n", (int)want);
    struct pollfd pf = {r.fd, POLLIN, 0};
    SHOW(poll(&pf, 1, 0));
    SHOW(uring_enter(r.fd, 0, 0, IORING_ENTER_GETEVENTS));
    printf("ready %u, flag %d\n", ready(&r), !!(*flags & IORING_SQ_CQ_OVERFLOW));
    for (int i = 0; i < 4; i++)
        good &= next(&r, &c) && c.user_data == want++;
    SHOW(uring_enter(r.fd, 0, 8, IORING_ENTER_GETEVENTS));
    printf("ready %u, flag %d\n", ready(&r), !!(*flags & IORING_SQ_CQ_OVERFLOW));
    /* New ones come after those that wait. */
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 24);
    SHOW(submit(&r));
    while (want < 25) {
        while (next(&r, &c))
            good &= c.user_data == want++;
        uring_enter(r.fd, 0, 0, IORING_ENTER_GETEVENTS);
    }
    CHECK(good);
    printf("ready %u, flag %d\n", ready(&r), !!(*flags & IORING_SQ_CQ_OVERFLOW));
    ring_free(&r);
    return done();
}
