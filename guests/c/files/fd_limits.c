// modes: static dynamic musl
// RLIMIT_NOFILE: EMFILE at the limit for every maker of descriptors, lowest free number first, close_range.
#include "../common.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

int main(void) {
    struct rlimit r = {16, 16};
    MUST(setrlimit(RLIMIT_NOFILE, &r) == 0);
    int n = 0, fd;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0)
        n++;
    printf("%d opened, then %s\n", n, err_name(errno));
    int p[2];
    SHOW(dup(0));
    SHOW(pipe(p));
    SHOW(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
    SHOW(epoll_create1(0));
    SHOW(eventfd(0, 0));
    SHOW(syscall(SYS_memfd_create, "x", 0));
    SHOW(fcntl(0, F_DUPFD, 3));
    SHOW(dup2(0, 16));
    SHOW(dup2(0, 15));
    close(7);
    close(5);
    SHOW(pipe(p));
    printf("%d %d\n", p[0], p[1]);
    close(9);
    SHOW(pipe(p)); /* needs two */
    SHOW(open("/dev/null", O_RDONLY));
    SHOW(syscall(SYS_close_range, 4, 10, 0));
    SHOW(open("/dev/null", O_RDONLY));
    SHOW(syscall(SYS_close_range, 3, ~0U, 4)); /* CLOSE_RANGE_CLOEXEC */
    SHOW(fcntl(4, F_GETFD));
    SHOW(fcntl(15, F_GETFD));
    SHOW(syscall(SYS_close_range, 10, 5, 0));
    SHOW(syscall(SYS_close_range, 0, 1, 0x100));
    SHOW(syscall(SYS_close_range, 3, ~0U, 0));
    SHOW(fcntl(15, F_GETFD));
    r.rlim_max = 17;
    SHOW(getrlimit(RLIMIT_NOFILE, &r));
    printf("%ld %ld\n", (long)r.rlim_cur, (long)r.rlim_max);
    SHOW(close(-1));
    SHOW(close(1 << 30));
    return done();
}
