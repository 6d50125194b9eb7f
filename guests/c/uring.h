/* io_uring by its three system calls: rings, entries, completions sorted by user_data. */
#ifndef FTL_URING_H
#define FTL_URING_H
#include "common.h"
#include <linux/io_uring.h>
#include <linux/time_types.h>

#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif
#ifndef IORING_TIMEOUT_MULTISHOT
#define IORING_TIMEOUT_MULTISHOT (1U << 6)
#endif

/* struct io_uring_cqe without the second half of large ones. */
struct cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

struct ring {
    int fd;
    struct io_uring_params p;
    char *sq, *cq;
    char *sqes;
    size_t len, sqes_len, sqe_size, cqe_size;
    unsigned tail; /* entries filled in, not yet shown to the kernel */
};

static UNUSED int uring_setup(unsigned n, struct io_uring_params *p) { return (int)syscall(SYS_io_uring_setup, n, p); }
static UNUSED long uring_enter(int fd, unsigned submit, unsigned min, unsigned flags) {
    return syscall(SYS_io_uring_enter, fd, submit, min, flags, NULL, 0);
}
static UNUSED long uring_register(int fd, unsigned op, const void *arg, unsigned n) {
    return syscall(SYS_io_uring_register, fd, op, arg, n);
}
static UNUSED unsigned *sq_word(struct ring *r, unsigned off) { return (unsigned *)(r->sq + off); }
static UNUSED unsigned *cq_word(struct ring *r, unsigned off) { return (unsigned *)(r->cq + off); }

static UNUSED void ring_map(struct ring *r) {
    size_t array = r->p.flags & IORING_SETUP_NO_SQARRAY ? 0 : r->p.sq_off.array + r->p.sq_entries * 4;
    r->cqe_size = r->p.flags & IORING_SETUP_CQE32 ? 32 : 16;
    r->sqe_size = r->p.flags & IORING_SETUP_SQE128 ? 128 : 64;
    r->len = r->p.cq_off.cqes + r->p.cq_entries * r->cqe_size;
    if (array > r->len)
        r->len = array;
    r->sqes_len = r->p.sq_entries * r->sqe_size;
    r->sq = mmap(NULL, r->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
    MUST(r->sq != MAP_FAILED);
    r->cq = r->sq;
    r->sqes = mmap(NULL, r->sqes_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES);
    MUST(r->sqes != MAP_FAILED);
    r->tail = *sq_word(r, r->p.sq_off.tail);
}
static UNUSED struct ring ring_new(unsigned n, unsigned flags, unsigned cq) {
    struct ring r;
    memset(&r, 0, sizeof r);
    r.p.flags = flags;
    r.p.cq_entries = cq;
    r.fd = uring_setup(n, &r.p);
    MUST(r.fd >= 0);
    ring_map(&r);
    return r;
}
static UNUSED void ring_free(struct ring *r) {
    munmap(r->sq, r->len);
    munmap(r->sqes, r->sqes_len);
    close(r->fd);
}
/* The next entry, all zero but for what every operation has. */
static UNUSED struct io_uring_sqe *entry(struct ring *r, int op, int fd, const void *addr, unsigned len, uint64_t off,
                                         uint64_t data) {
    unsigned i = r->tail & (r->p.sq_entries - 1);
    MUST(r->tail - __atomic_load_n(sq_word(r, r->p.sq_off.head), __ATOMIC_ACQUIRE) < r->p.sq_entries);
    struct io_uring_sqe *s = (struct io_uring_sqe *)(r->sqes + i * r->sqe_size);
    memset(s, 0, r->sqe_size);
    s->opcode = (uint8_t)op;
    s->fd = fd;
    s->addr = (uintptr_t)addr;
    s->len = len;
    s->off = off;
    s->user_data = data;
    if (!(r->p.flags & IORING_SETUP_NO_SQARRAY))
        sq_word(r, r->p.sq_off.array)[i] = i;
    r->tail++;
    return s;
}
/* Shows the kernel what was filled in; how many. */
static UNUSED unsigned flush(struct ring *r) {
    unsigned *tail = sq_word(r, r->p.sq_off.tail), n = r->tail - *tail;
    __atomic_store_n(tail, r->tail, __ATOMIC_RELEASE);
    return n;
}
static UNUSED long submit(struct ring *r) {
    unsigned n = flush(r);
    return uring_enter(r->fd, n, 0, 0);
}
static UNUSED long submit_wait(struct ring *r, unsigned min) {
    unsigned n = flush(r);
    return uring_enter(r->fd, n, min, IORING_ENTER_GETEVENTS);
}
static UNUSED unsigned ready(struct ring *r) {
    return __atomic_load_n(cq_word(r, r->p.cq_off.tail), __ATOMIC_ACQUIRE) - *cq_word(r, r->p.cq_off.head);
}
static UNUSED bool next(struct ring *r, struct cqe *c) {
    unsigned *head = cq_word(r, r->p.cq_off.head);
    if (!ready(r))
        return false;
    memcpy(c, r->cq + r->p.cq_off.cqes + (*head & (r->p.cq_entries - 1)) * r->cqe_size, sizeof *c);
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return true;
}
/* Waits for one. */
static UNUSED struct cqe take(struct ring *r) {
    struct cqe c;
    while (!next(r, &c))
        MUST(uring_enter(r->fd, 0, 1, IORING_ENTER_GETEVENTS) >= 0 || errno == EINTR);
    return c;
}
static UNUSED void print_cqe(struct cqe *c) {
    printf("  [%llu] ", (unsigned long long)c->user_data);
    if (c->res < 0)
        printf("%s", err_name(-c->res));
    else
        printf("%d", c->res);
    if (c->flags & IORING_CQE_F_BUFFER)
        printf(" buffer %u", c->flags >> 16);
    if (c->flags & IORING_CQE_F_MORE)
        printf(" more");
    printf("\n");
}
static UNUSED int by_data(const void *a, const void *b) {
    const struct cqe *x = a, *y = b;
    return x->user_data < y->user_data ? -1 : x->user_data > y->user_data;
}
/* Waits for n completions and prints them, sorted by user_data (several of one keep their order). */
static UNUSED void show(struct ring *r, unsigned n) {
    struct cqe c[256];
    MUST(n <= 256);
    for (unsigned i = 0; i < n; i++)
        c[i] = take(r);
    for (unsigned i = 1; i < n; i++)
        for (unsigned j = i; j > 0 && by_data(&c[j - 1], &c[j]) > 0; j--) {
            struct cqe t = c[j];
            c[j] = c[j - 1];
            c[j - 1] = t;
        }
    for (unsigned i = 0; i < n; i++)
        print_cqe(&c[i]);
}
/* Submits what was filled in, waits for n completions and prints them. */
static UNUSED void go(struct ring *r, const char *what, unsigned n) {
    printf("%s: %ld\n", what, submit(r));
    show(r, n);
}
#endif
