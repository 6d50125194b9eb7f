// modes: static dynamic musl
// Pipes: data, end of file, O_NONBLOCK, capacity, F_SETPIPE_SZ, EPIPE, O_CLOEXEC, wrong directions.
#include "../common.h"

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    int p[2];
    char b[8192] = {0};
    SHOW(pipe(p));
    printf("%d %d\n", p[0], p[1]);
    SHOW(write(p[1], "hello", 5));
    SHOW(read(p[0], b, 2));
    SHOW(read(p[0], b, 100));
    SHOW(write(p[0], "x", 1));
    SHOW(read(p[1], b, 1));
    SHOW(fcntl(p[0], F_SETFL, O_NONBLOCK));
    SHOW(read(p[0], b, 1));
    SHOW(fcntl(p[1], F_SETFL, O_NONBLOCK));
    long total = 0, n;
    while ((n = write(p[1], b, 4096)) > 0)
        total += n;
    printf("%ld bytes fit, then %s\n", total, err_name(errno));
    SHOW(write(p[1], b, 1));
    SHOW(read(p[0], b, 4096));
    SHOW(write(p[1], b, 8192)); /* more than PIPE_BUF: what fits */
    SHOW(write(p[1], b, 4096));
    while (read(p[0], b, sizeof b) > 0)
        ;
    SHOW(fcntl(p[0], F_GETPIPE_SZ));
    SHOW(fcntl(p[0], F_SETPIPE_SZ, 4096));
    SHOW(write(p[1], b, 8192));
    SHOW(fcntl(p[0], F_SETPIPE_SZ, 131072));
    SHOW(fcntl(p[1], F_GETPIPE_SZ));
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 5000));
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 0));
    SHOW(close(p[1]));
    SHOW(read(p[0], b, sizeof b));
    SHOW(read(p[0], b, sizeof b));
    SHOW(pipe(p));
    close(p[0]);
    SHOW(write(p[1], "x", 1));
    SHOW(pipe2(p, O_CLOEXEC | O_NONBLOCK));
    SHOW(fcntl(p[0], F_GETFD));
    SHOW(pipe2(p, 0x1));
    SHOW(syscall(SYS_pipe, BAD));
    SHOW(fcntl(0, F_GETPIPE_SZ) >= 0 || errno == EBADF);
    return done();
}
