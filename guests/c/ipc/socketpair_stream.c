// modes: static dynamic musl
// Stream pairs: bytes run together, peek, nonblocking, shutdown, end of file, addresses, credentials.
#include "../common.h"
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    int s[2];
    char b[64] = {0};
    SHOW(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    SHOW(write(s[0], "one", 3));
    SHOW(send(s[0], "two", 3, 0));
    SHOW(recv(s[1], b, 2, MSG_PEEK));
    SHOW(recv(s[1], b, sizeof b, 0));
    puts(b);
    SHOW(recv(s[1], b, 1, MSG_DONTWAIT));
    SHOW(write(s[1], "back", 4));
    int n = 0;
    SHOW(ioctl(s[0], FIONREAD, &n));
    SHOW(n);
    SHOW(recv(s[0], b, 10, MSG_DONTWAIT | MSG_TRUNC));
    struct sockaddr_un a;
    socklen_t len = sizeof a;
    SHOW(getsockname(s[0], (void *)&a, &len));
    printf("family %d length %u\n", a.sun_family, len);
    len = sizeof a;
    SHOW(getpeername(s[0], (void *)&a, &len));
    struct { pid_t pid; uid_t uid; gid_t gid; } cred;
    len = sizeof cred;
    SHOW(getsockopt(s[0], SOL_SOCKET, 17, &cred, &len)); /* SO_PEERCRED */
    CHECK(cred.pid == getpid() && cred.uid == getuid() && cred.gid == getgid());
    SHOW(shutdown(s[0], SHUT_WR));
    SHOW(write(s[0], "x", 1));
    SHOW(read(s[1], b, 1));
    SHOW(write(s[1], "still", 5));
    SHOW(read(s[0], b, sizeof b));
    SHOW(shutdown(s[0], SHUT_RD));
    SHOW(read(s[0], b, 1));
    SHOW(write(s[1], "x", 1));
    SHOW(close(s[1]));
    SHOW(read(s[0], b, 1));
    SHOW(shutdown(s[0], 99));
    SHOW(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    fcntl(s[0], F_SETFL, O_NONBLOCK);
    static char big[65536];
    long total = 0, w;
    while ((w = write(s[0], big, sizeof big)) > 0)
        total += w;
    printf("full: %s\n", err_name(errno));
    CHECK(total >= 65536);
    while (total > 0 && (w = read(s[1], big, sizeof big)) > 0)
        total -= w;
    SHOW(total);
    MUST(write(s[0], "left", 4) == 4);
    close(s[0]);
    SHOW(read(s[1], b, 2)); /* what was sent is still read */
    SHOW(read(s[1], b, 9));
    SHOW(read(s[1], b, 9));
    SHOW(socketpair(AF_INET, SOCK_STREAM, 0, s));
    SHOW(socketpair(AF_UNIX, 99, 0, s));
    SHOW(socketpair(AF_UNIX, SOCK_STREAM, 5, s));
    SHOW(socketpair(99, SOCK_STREAM, 0, s));
    SHOW(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s));
    SHOW(fcntl(s[0], F_GETFD));
    SHOW(fcntl(s[0], F_GETFL));
    return done();
}
