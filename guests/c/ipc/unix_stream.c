// modes: static dynamic musl
// UNIX stream sockets: pairs, boundaries that vanish, shutdown, the errors after the peer has gone, full buffers.
#include "../common.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static char big[1 << 20];

static void pair(int s[2], int kind) {
    MUST(socketpair(AF_UNIX, kind, 0, s) == 0);
}

static void ready(const char *what, int fd) {
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM | POLLWRBAND | POLLRDBAND, 0};
    poll(&p, 1, 0);
    printf("%s ready %x\n", what, p.revents);
}

static void filling(int kind, size_t chunk) {
    int s[2];
    pair(s, kind | SOCK_NONBLOCK);
    long total = 0, calls = 0, full_at = -1;
    ssize_t n;
    while ((n = write(s[0], big, chunk)) > 0) {
        total += n, calls++;
        struct pollfd p = {s[0], POLLOUT, 0};
        if (full_at < 0 && poll(&p, 1, 0) == 0)
            full_at = calls;
    }
    printf("chunk %zu: %ld bytes in %ld writes, not writable after %ld, %s\n", chunk, total, calls, full_at, err_name(errno));
    int q = 0;
    SHOW(ioctl(s[1], FIONREAD, &q));
    printf("waiting %d\n", q);
    long before = 0;
    struct pollfd p = {s[0], POLLOUT, 0};
    while (poll(&p, 1, 0) == 0 && (n = read(s[1], big, 4096)) > 0)
        before += n;
    printf("writable again after %ld\n", before);
    close(s[0]), close(s[1]);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    int s[2];
    char b[100];
    pair(s, SOCK_STREAM | SOCK_NONBLOCK);
    ready("fresh", s[0]);
    SHOW(read(s[0], b, 10));
    SHOW(write(s[0], "abc", 3));
    SHOW(write(s[0], "defg", 4));
    ready("receiver", s[1]);
    SHOW(recv(s[1], b, 5, MSG_PEEK));
    SHOW(recv(s[1], b, 5, 0));
    SHOW(recv(s[1], b, 50, MSG_TRUNC));
    SHOW(recv(s[1], b, 50, MSG_DONTWAIT));
    SHOW(send(s[0], "x", 1, MSG_OOB | MSG_NOSIGNAL) == 1 || errno == EOPNOTSUPP);
    close(s[0]), close(s[1]);

    pair(s, SOCK_STREAM | SOCK_NONBLOCK);
    SHOW(send(s[0], "", 0, 0));
    SHOW(recv(s[1], b, 10, 0));
    SHOW(shutdown(s[0], SHUT_WR));
    ready("shut for writing", s[0]);
    ready("its peer", s[1]);
    SHOW(recv(s[1], b, 10, 0));
    SHOW(write(s[0], "x", 1));
    SHOW(write(s[1], "yz", 2));
    SHOW(read(s[0], b, 10));
    SHOW(shutdown(s[0], SHUT_RD));
    ready("both ways", s[0]);
    ready("its peer", s[1]);
    SHOW(write(s[1], "x", 1));
    SHOW(read(s[0], b, 10));
    SHOW(shutdown(s[0], 7));
    close(s[0]), close(s[1]);

    pair(s, SOCK_STREAM);
    MUST(write(s[1], "unread", 6) == 6);
    close(s[1]);
    ready("peer gone, data left", s[0]);
    SHOW(read(s[0], b, 3));
    SHOW(read(s[0], b, 30));
    SHOW(read(s[0], b, 30));
    SHOW(write(s[0], "x", 1));
    SHOW(send(s[0], "x", 1, MSG_NOSIGNAL));
    close(s[0]);

    pair(s, SOCK_STREAM);
    MUST(write(s[0], "unread", 6) == 6);
    close(s[1]);
    ready("peer gone with our data", s[0]);
    int e = -1;
    socklen_t l = sizeof e;
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_ERROR, &e, &l));
    printf("SO_ERROR %s\n", err_name(e));
    SHOW(read(s[0], b, 30));
    close(s[0]);
    pair(s, SOCK_STREAM);
    MUST(write(s[0], "unread", 6) == 6);
    close(s[1]);
    SHOW(read(s[0], b, 30));
    SHOW(read(s[0], b, 30));
    close(s[0]);

    int u = socket(AF_UNIX, SOCK_STREAM, 0);
    ready("unconnected", u);
    SHOW(write(u, "x", 1));
    SHOW(read(u, b, 1));
    SHOW(recv(u, b, 1, 0));
    SHOW(listen(u, 5));
    SHOW(accept(u, 0, 0));
    struct sockaddr_un a = {AF_UNIX, "x"};
    SHOW(sendto(u, "x", 1, 0, (void *)&a, sizeof a));
    SHOW(shutdown(u, SHUT_RD));
    close(u);

    filling(SOCK_STREAM, 1);
    filling(SOCK_STREAM, 1000);
    filling(SOCK_STREAM, 8192);
    filling(SOCK_STREAM, sizeof big);
    filling(SOCK_SEQPACKET, 5000);
    filling(SOCK_DGRAM, 1);

    /* Blocking: the writer goes on when the reader makes room. */
    pair(s, SOCK_STREAM);
    pid_t pid = fork();
    if (pid == 0) {
        close(s[0]);
        long n, sum = 0;
        while ((n = read(s[1], big, 10000)) > 0)
            sum += n;
        printf("child read %ld\n", sum);
        child_exit(0);
    }
    close(s[1]);
    SHOW(write(s[0], big, sizeof big));
    SHOW(recv(s[0], b, 1, MSG_DONTWAIT));
    close(s[0]);
    wait_show("reader", pid);

    SHOW(socketpair(AF_UNIX, SOCK_STREAM, 6, s));
    SHOW(socketpair(AF_UNIX, 9, 0, s));
    SHOW(socketpair(AF_UNIX, SOCK_RDM, 0, s));
    SHOW(socketpair(99, SOCK_STREAM, 0, s));
    SHOW(socketpair(AF_INET, SOCK_STREAM, 0, s));
    SHOW(socketpair(AF_UNIX, SOCK_STREAM | 0x10, 0, s));
    int *bad = BAD;
    __asm__("" : "+r"(bad));
    SHOW(socketpair(AF_UNIX, SOCK_STREAM, 0, bad));
    return done();
}
