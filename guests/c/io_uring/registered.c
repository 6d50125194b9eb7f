/* io_uring_register: files, buffers, an eventfd, personalities, restrictions, rings themselves, the probe. */
#include "../uring.h"
#include <sys/eventfd.h>

static struct ring r;
static long count(int e) {
    uint64_t v;
    return read(e, &v, 8) == 8 ? (long)v : -1;
}

int main(void) {
    r = ring_new(16, 0, 0);
    struct io_uring_sqe *s;
    char b[64] = "";
    put_file("a", "contents of a");
    put_file("b", "contents of b");
    int a = open("a", O_RDWR), c = open("b", O_RDONLY);
    int fds[4] = {a, -1, c, -1}, bad[1] = {99}, self[1] = {r.fd};
    SHOW(uring_register(r.fd, 99, NULL, 0));
    SHOW(uring_register(a, IORING_REGISTER_FILES, fds, 4));
    SHOW(uring_register(r.fd, IORING_REGISTER_FILES, NULL, 4));
    SHOW(uring_register(r.fd, IORING_REGISTER_FILES, fds, 0));
    SHOW(uring_register(r.fd, IORING_REGISTER_FILES, bad, 1));
    SHOW(uring_register(r.fd, IORING_REGISTER_FILES, self, 1));
    SHOW(uring_register(r.fd, IORING_UNREGISTER_FILES, NULL, 0));
    SHOW(uring_register(r.fd, IORING_REGISTER_FILES, fds, 4));
    SHOW(uring_register(r.fd, IORING_REGISTER_FILES, fds, 4));
    close(c);
    entry(&r, IORING_OP_READ, 2, b, 20, 0, 1)->flags = IOSQE_FIXED_FILE;
    entry(&r, IORING_OP_READ, 1, b, 20, 0, 2)->flags = IOSQE_FIXED_FILE;
    entry(&r, IORING_OP_READ, 4, b, 20, 0, 3)->flags = IOSQE_FIXED_FILE;
    go(&r, "slots", 3);
    puts(b);
    struct io_uring_files_update u = {.offset = 1, .fds = (uintptr_t)fds};
    SHOW(uring_register(r.fd, IORING_REGISTER_FILES_UPDATE, &u, 2));
    entry(&r, IORING_OP_READ, 1, b, 8, 0, 1)->flags = IOSQE_FIXED_FILE;
    entry(&r, IORING_OP_READ, 2, b, 8, 0, 2)->flags = IOSQE_FIXED_FILE;
    go(&r, "updated", 2);
    u.offset = 3;
    SHOW(uring_register(r.fd, IORING_REGISTER_FILES_UPDATE, &u, 2));
    int skip[3] = {IORING_REGISTER_FILES_SKIP, a, 99};
    u = (struct io_uring_files_update){.offset = 1, .fds = (uintptr_t)skip};
    SHOW(uring_register(r.fd, IORING_REGISTER_FILES_UPDATE, &u, 3));
    entry(&r, IORING_OP_FILES_UPDATE, -1, skip, 1, 3, 1);
    go(&r, "by an entry", 1);
    /* Opened into a slot, closed there. */
    s = entry(&r, IORING_OP_OPENAT, AT_FDCWD, "b", 0, 0, 1);
    s->file_index = 4;
    go(&r, "open into a slot", 1);
    memset(b, 0, sizeof b);
    entry(&r, IORING_OP_READ, 3, b, 20, 0, 1)->flags = IOSQE_FIXED_FILE;
    go(&r, "read there", 1);
    puts(b);
    s = entry(&r, IORING_OP_OPENAT, AT_FDCWD, "b", 0, 0, 1);
    s->file_index = 99;
    go(&r, "no such slot", 1);
    s = entry(&r, IORING_OP_OPENAT, AT_FDCWD, "b", 0, 0, 1);
    s->file_index = 1;
    s->open_flags = O_CLOEXEC;
    go(&r, "close on exec", 1);
    entry(&r, IORING_OP_CLOSE, 0, NULL, 0, 0, 1)->file_index = 4;
    entry(&r, IORING_OP_CLOSE, 0, NULL, 0, 0, 2)->file_index = 4;
    entry(&r, IORING_OP_CLOSE, 0, NULL, 0, 0, 3)->file_index = 99;
    go(&r, "close a slot", 3);
    s = entry(&r, IORING_OP_OPENAT, AT_FDCWD, "b", 0, 0, 1);
    s->file_index = IORING_FILE_INDEX_ALLOC;
    go(&r, "any slot", 1);
    for (int i = 0; i < 4; i++) {
        s = entry(&r, IORING_OP_SOCKET, 1, NULL, 0, 1, i);
        s->file_index = IORING_FILE_INDEX_ALLOC;
    }
    SHOW(submit(&r));
    int full = 0;
    for (int i = 0; i < 4; i++)
        full += take(&r).res == -ENFILE;
    CHECK(full >= 1);
    SHOW(uring_register(r.fd, IORING_UNREGISTER_FILES, NULL, 0));
    SHOW(uring_register(r.fd, IORING_UNREGISTER_FILES, NULL, 0));
    /* With tags, which are told when the file goes. */
    struct io_uring_rsrc_register reg;
    memset(&reg, 0, sizeof reg);
    uint64_t tags[2] = {1001, 1002};
    int two[2] = {a, a};
    reg.nr = 2;
    reg.data = (uintptr_t)two;
    reg.tags = (uintptr_t)tags;
    SHOW(uring_register(r.fd, IORING_REGISTER_FILES2, &reg, sizeof reg));
    int none[1] = {-1};
    u = (struct io_uring_files_update){.offset = 0, .fds = (uintptr_t)none};
    SHOW(uring_register(r.fd, IORING_REGISTER_FILES_UPDATE, &u, 1));
    show(&r, 1);
    SHOW(uring_register(r.fd, IORING_UNREGISTER_FILES, NULL, 0));
    show(&r, 1);

    /* Buffers. */
    char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iovec v[2] = {{m, 4096}, {m + 4096, 100}}, hole = {BAD, 10}, empty = {m, 0};
    SHOW(uring_register(r.fd, IORING_REGISTER_BUFFERS, &hole, 1));
    SHOW(uring_register(r.fd, IORING_REGISTER_BUFFERS, &empty, 1));
    SHOW(uring_register(r.fd, IORING_REGISTER_BUFFERS, v, 0));
    SHOW(uring_register(r.fd, IORING_REGISTER_BUFFERS, v, 2));
    SHOW(uring_register(r.fd, IORING_REGISTER_BUFFERS, v, 2));
    entry(&r, IORING_OP_READ_FIXED, a, m + 10, 13, 0, 1)->buf_index = 0;
    go(&r, "read fixed", 1);
    puts(m + 10);
    memcpy(m + 4096, "CONTENTS", 8);
    entry(&r, IORING_OP_WRITE_FIXED, a, m + 4096, 8, 0, 1)->buf_index = 1;
    go(&r, "write fixed", 1);
    show_file("a");
    entry(&r, IORING_OP_READ_FIXED, a, m + 4096, 101, 0, 1)->buf_index = 1;
    go(&r, "too long", 1);
    entry(&r, IORING_OP_READ_FIXED, a, m + 4096, 1, 0, 1)->buf_index = 0;
    go(&r, "another's", 1);
    entry(&r, IORING_OP_READ_FIXED, a, m, 1, 0, 1)->buf_index = 2;
    go(&r, "no such buffer", 1);
    SHOW(uring_register(r.fd, IORING_UNREGISTER_BUFFERS, NULL, 0));
    SHOW(uring_register(r.fd, IORING_UNREGISTER_BUFFERS, NULL, 0));

    /* An eventfd. */
    int e = eventfd(0, EFD_NONBLOCK);
    SHOW(uring_register(r.fd, IORING_REGISTER_EVENTFD, &a, 1));
    SHOW(uring_register(r.fd, IORING_REGISTER_EVENTFD, &e, 1));
    SHOW(uring_register(r.fd, IORING_REGISTER_EVENTFD, &e, 1));
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
    go(&r, "told", 1);
    SHOW(count(e));
    SHOW(uring_register(r.fd, IORING_UNREGISTER_EVENTFD, NULL, 0));
    SHOW(uring_register(r.fd, IORING_UNREGISTER_EVENTFD, NULL, 0));
    SHOW(uring_register(r.fd, IORING_REGISTER_EVENTFD_ASYNC, &e, 1));
    int p[2];
    MUST(pipe(p) == 0);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
    entry(&r, IORING_OP_READ, p[0], b, 1, 0, 2);
    go(&r, "not told", 1);
    SHOW(count(e));
    MUST(write(p[1], "x", 1) == 1);
    show(&r, 1);
    SHOW(count(e));
    SHOW(uring_register(r.fd, IORING_UNREGISTER_EVENTFD, NULL, 0));

    /* Who it was. */
    int id = (int)uring_register(r.fd, IORING_REGISTER_PERSONALITY, NULL, 0);
    CHECK(id > 0);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 1)->personality = (uint16_t)id;
    go(&r, "as registered", 1);
    SHOW(uring_register(r.fd, IORING_UNREGISTER_PERSONALITY, NULL, id));
    SHOW(uring_register(r.fd, IORING_UNREGISTER_PERSONALITY, NULL, id));

    /* What there is. */
    struct {
        struct io_uring_probe p;
        struct io_uring_probe_op op[64];
    } probe;
    memset(&probe, 0, sizeof probe);
    SHOW(uring_register(r.fd, IORING_REGISTER_PROBE, &probe, 64));
    static const int known[] = {IORING_OP_NOP,    IORING_OP_READV,       IORING_OP_POLL_ADD, IORING_OP_TIMEOUT,
                                IORING_OP_ACCEPT, IORING_OP_OPENAT2,     IORING_OP_SPLICE,   IORING_OP_TEE,
                                IORING_OP_LINKAT, IORING_OP_MSG_RING,    IORING_OP_SOCKET,   IORING_OP_SHUTDOWN};
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        MUST(probe.op[known[i]].op == known[i] && probe.op[known[i]].flags == IO_URING_OP_SUPPORTED);
    CHECK(probe.p.last_op >= IORING_OP_SOCKET);
    SHOW(uring_register(r.fd, IORING_REGISTER_PROBE, &probe, 64));
    SHOW(uring_register(r.fd, IORING_REGISTER_PROBE, &probe, 300));

    /* The ring by a number of the task's own. */
    struct io_uring_rsrc_update up = {.offset = -1U, .data = r.fd};
    SHOW(uring_register(r.fd, IORING_REGISTER_RING_FDS, &up, 1));
    printf("offset %u\n", up.offset);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
    flush(&r);
    SHOW(uring_enter(up.offset, 1, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_REGISTERED_RING));
    show(&r, 1);
    SHOW(uring_enter(up.offset + 1, 1, 1, IORING_ENTER_REGISTERED_RING));
    SHOW(uring_enter(99, 1, 1, IORING_ENTER_REGISTERED_RING));
    up.data = 0;
    SHOW(uring_register(r.fd, IORING_UNREGISTER_RING_FDS, &up, 1));
    ring_free(&r);

    /* Restrictions. */
    r = ring_new(8, IORING_SETUP_R_DISABLED, 0);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
    SHOW(submit(&r));
    struct io_uring_restriction res[3];
    memset(res, 0, sizeof res);
    res[0].opcode = IORING_RESTRICTION_SQE_OP;
    res[0].sqe_op = IORING_OP_NOP;
    res[1].opcode = IORING_RESTRICTION_REGISTER_OP;
    res[1].register_op = IORING_REGISTER_PERSONALITY;
    res[2].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    res[2].sqe_flags = IOSQE_IO_LINK;
    SHOW(uring_register(r.fd, IORING_REGISTER_RESTRICTIONS, res, 3));
    SHOW(uring_register(r.fd, IORING_REGISTER_RESTRICTIONS, res, 3));
    SHOW(uring_register(r.fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0));
    SHOW(uring_register(r.fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0));
    SHOW(uring_enter(r.fd, 1, 1, IORING_ENTER_GETEVENTS));
    show(&r, 1);
    entry(&r, IORING_OP_READ, 0, b, 0, 0, 2);
    go(&r, "not allowed", 1);
    entry(&r, IORING_OP_NOP, -1, NULL, 0, 0, 2)->flags = IOSQE_ASYNC;
    go(&r, "flag not allowed", 1);
    SHOWN(uring_register(r.fd, IORING_REGISTER_PERSONALITY, NULL, 0));
    SHOW(uring_register(r.fd, IORING_REGISTER_FILES, fds, 1));
    ring_free(&r);
    return done();
}
