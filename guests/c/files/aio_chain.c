/* Poll requests for one eventfd whose results are signalled to that very eventfd: each result may end the next. */
#include "../common.h"
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/eventfd.h>

enum { N = 3000 };

int main(void) {
    aio_context_t c = 0;
    MUST(syscall(SYS_io_setup, N, &c) == 0);
    int e = eventfd(0, EFD_NONBLOCK);
    static struct iocb b[N];
    for (int i = 0; i < N; i++) {
        b[i].aio_lio_opcode = IOCB_CMD_POLL;
        b[i].aio_fildes = e;
        b[i].aio_buf = POLLIN;
        b[i].aio_data = i;
        b[i].aio_flags = IOCB_FLAG_RESFD;
        b[i].aio_resfd = e;
        struct iocb *one = &b[i];
        MUST(syscall(SYS_io_submit, c, 1, &one) == 1);
    }
    uint64_t v = 1;
    MUST(write(e, &v, 8) == 8);
    static struct io_event ev[N];
    static bool seen[N];
    long n = 0;
    while (n < N) {
        long got = syscall(SYS_io_getevents, c, 1, N, ev, NULL);
        MUST(got > 0);
        for (long i = 0; i < got; i++) {
            MUST(!seen[ev[i].data] && (ev[i].res & POLLIN));
            seen[ev[i].data] = true;
        }
        n += got;
    }
    printf("%ld events\n", n);
    /* Each result counts one, unless Linux puts it off: at least the one that was written is there. */
    MUST(read(e, &v, 8) == 8);
    CHECK(v >= 1 && v <= N + 1);
    SHOW(syscall(SYS_io_destroy, c));
    return done();
}
