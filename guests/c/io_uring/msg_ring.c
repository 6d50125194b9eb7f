/* Messages from one ring to another. */
#include "../uring.h"
#include <poll.h>

int main(void) {
    struct ring r = ring_new(8, 0, 0), q = ring_new(8, 0, 0);
    struct io_uring_sqe *s;
    entry(&r, IORING_OP_MSG_RING, q.fd, NULL, 17, 4711, 1);
    go(&r, "to another", 1);
    show(&q, 1);
    entry(&r, IORING_OP_MSG_RING, r.fd, NULL, 18, 4712, 1);
    go(&r, "to itself", 2);
    entry(&r, IORING_OP_MSG_RING, 0, NULL, 18, 4712, 1);
    go(&r, "to no ring", 1);
    entry(&r, IORING_OP_MSG_RING, 99, NULL, 18, 4712, 1);
    go(&r, "to nothing", 1);
    s = entry(&r, IORING_OP_MSG_RING, q.fd, NULL, 18, 4712, 1);
    s->msg_ring_flags = 1 << 20;
    go(&r, "odd flags", 1);
    entry(&r, IORING_OP_MSG_RING, q.fd, (void *)9, 18, 4712, 1);
    go(&r, "odd command", 1);
    /* A file, from slot to slot. */
    put_file("f", "in the file");
    int f = open("f", O_RDONLY), free_slots[2] = {-1, -1};
    MUST(uring_register(r.fd, IORING_REGISTER_FILES, &f, 1) == 0);
    MUST(uring_register(q.fd, IORING_REGISTER_FILES, free_slots, 2) == 0);
    s = entry(&r, IORING_OP_MSG_RING, q.fd, (void *)1, 0, 4713, 1);
    s->file_index = 2;
    go(&r, "a file", 1);
    show(&q, 1);
    char b[32] = "";
    entry(&q, IORING_OP_READ, 1, b, 20, 0, 2)->flags = IOSQE_FIXED_FILE;
    go(&q, "read", 1);
    puts(b);
    /* Who waits for the other ring is woken. */
    pid_t pid = fork();
    if (pid == 0) {
        sleep_ms(20);
        entry(&r, IORING_OP_MSG_RING, q.fd, NULL, 19, 4714, 1);
        MUST(submit(&r) == 1);
        child_exit(0);
    }
    SHOW(uring_enter(q.fd, 0, 1, IORING_ENTER_GETEVENTS));
    show(&q, 1);
    wait_show("child", pid);
    show(&r, 1);
    ring_free(&r);
    ring_free(&q);
    return done();
}
