// modes: static dynamic musl
// UNIX sockets by name: paths, abstract names, autobind; listen, connect and accept with their errors.
#include "../common.h"
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t put(struct sockaddr_un *a, const char *name, size_t n) {
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    memcpy(a->sun_path, name, n);
    return offsetof(struct sockaddr_un, sun_path) + n;
}

static void show_name(const char *what, int fd, int (*get)(int, struct sockaddr *, socklen_t *)) {
    struct sockaddr_un a;
    memset(&a, 'z', sizeof a);
    socklen_t l = sizeof a;
    if (get(fd, (void *)&a, &l) < 0) {
        printf("%s: %s\n", what, err_name(errno));
        return;
    }
    printf("%s: length %u family %d name ", what, l, a.sun_family);
    for (unsigned i = 2; i < l; i++)
        putchar(a.sun_path[i - 2] >= '0' && a.sun_path[i - 2] <= '9' ? '#' : a.sun_path[i - 2] ? a.sun_path[i - 2] : '@');
    putchar('\n');
}

static int sock(int kind) {
    int fd = socket(AF_UNIX, kind, 0);
    MUST(fd >= 0);
    return fd;
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_un a, got;
    socklen_t l;
    char b[64];

    int srv = sock(SOCK_STREAM);
    show_name("unbound", srv, getsockname);
    show_name("no peer", srv, getpeername);
    l = put(&a, "sock", 4);
    SHOW(bind(srv, (void *)&a, l));
    show_name("bound", srv, getsockname);
    struct stat st;
    SHOW(stat("sock", &st));
    printf("mode %o\n", st.st_mode);
    SHOW(open("sock", O_RDWR));
    SHOW(bind(srv, (void *)&a, l));
    int other = sock(SOCK_STREAM);
    SHOW(bind(other, (void *)&a, l));
    SHOW(connect(other, (void *)&a, l));
    SHOW(accept(srv, 0, 0));
    SHOW(listen(srv, 1));
    SHOW(fcntl(srv, F_SETFL, O_NONBLOCK));
    SHOW(accept(srv, 0, 0));
    int v = -1;
    socklen_t vl = sizeof v;
    SHOW(getsockopt(srv, SOL_SOCKET, SO_ACCEPTCONN, &v, &vl));
    printf("%d\n", v);

    int c1 = sock(SOCK_STREAM | SOCK_NONBLOCK), c2 = sock(SOCK_STREAM | SOCK_NONBLOCK), c3 = sock(SOCK_STREAM | SOCK_NONBLOCK);
    SHOW(connect(c1, (void *)&a, l));
    SHOW(connect(c1, (void *)&a, l));
    SHOW(connect(c2, (void *)&a, l));
    SHOW(connect(c3, (void *)&a, l));
    struct pollfd p = {srv, POLLIN | POLLOUT, 0};
    SHOW(poll(&p, 1, 0));
    printf("%x\n", p.revents);
    show_name("client", c1, getsockname);
    show_name("client's peer", c1, getpeername);
    SHOW(write(c1, "early", 5));
    l = sizeof got;
    int s1 = accept4(srv, (void *)&got, &l, SOCK_CLOEXEC | SOCK_NONBLOCK);
    printf("accepted, address length %u\n", l);
    SHOW(fcntl(s1, F_GETFD));
    SHOW((fcntl(s1, F_GETFL) & O_NONBLOCK) != 0);
    show_name("accepted", s1, getsockname);
    show_name("accepted's peer", s1, getpeername);
    SHOW(read(s1, b, sizeof b));
    SHOW(accept4(srv, 0, 0, 0x10));
    l = put(&a, "sock", 4);
    SHOW(connect(c3, (void *)&a, l));
    SHOW(unlink("sock"));
    int late = sock(SOCK_STREAM);
    SHOW(connect(late, (void *)&a, l));
    close(srv);
    SHOW(write(c2, "x", 1));
    SHOW(read(c2, b, 1));
    SHOW(read(c3, b, 1));
    SHOW(write(s1, "still", 5));
    SHOW(read(c1, b, sizeof b));

    /* A node whose socket is gone, a file that is none, a wrong type, no permission to look. */
    int tmp = sock(SOCK_STREAM);
    l = put(&a, "dead", 4);
    SHOW(bind(tmp, (void *)&a, l));
    close(tmp);
    SHOW(connect(late, (void *)&a, l));
    put_file("plain", "");
    l = put(&a, "plain", 5);
    SHOW(connect(late, (void *)&a, l));
    l = put(&a, "absent", 6);
    SHOW(connect(late, (void *)&a, l));
    l = put(&a, "dead/x", 6);
    SHOW(connect(late, (void *)&a, l));
    l = put(&a, "no/dir", 6);
    SHOW(bind(late, (void *)&a, l));
    int dg = sock(SOCK_DGRAM);
    l = put(&a, "dgram", 5);
    SHOW(bind(dg, (void *)&a, l));
    SHOW(connect(late, (void *)&a, l));
    SHOW(listen(dg, 1));
    SHOW(accept(dg, 0, 0));
    SHOW(bind(late, (void *)&a, 2));
    SHOW(connect(late, (void *)&a, 2));
    SHOW(connect(late, (void *)&a, 111));
    SHOW(connect(late, (void *)&a, 200));
    SHOW(connect(late, (void *)&a, -1));
    SHOW(connect(late, BAD, 10));
    a.sun_family = AF_INET;
    SHOW(connect(late, (void *)&a, sizeof a));
    SHOW(connect(0, (void *)&a, sizeof a));
    SHOW(connect(77, (void *)&a, sizeof a));

    /* Abstract names: every byte counts. */
    int x = sock(SOCK_SEQPACKET), y = sock(SOCK_SEQPACKET);
    char name[32] = "\0ftl-test";
    int n = 10 + snprintf(name + 10, 20, "%08dend", getpid()); /* abstract names are the machine's: one per run */
    l = put(&a, name, (size_t)n);
    SHOW(bind(x, (void *)&a, l));
    show_name("abstract", x, getsockname);
    SHOW(bind(y, (void *)&a, l));
    SHOW(bind(y, (void *)&a, l - 1));
    SHOW(listen(x, 0));
    int z = sock(SOCK_SEQPACKET);
    SHOW(connect(z, (void *)&a, l));
    show_name("peer", z, getpeername);
    close(x);
    SHOW(send(z, "x", 1, 0));
    SHOW(recv(z, b, 1, 0));
    int again = sock(SOCK_STREAM);
    SHOW(bind(again, (void *)&a, l));

    int autob = sock(SOCK_DGRAM);
    sa_family_t f = AF_UNIX;
    SHOW(bind(autob, (void *)&f, sizeof f));
    l = sizeof got;
    MUST(getsockname(autob, (void *)&got, &l) == 0);
    printf("autobound: length %u, first byte %d\n", l, got.sun_path[0]);
    SHOW(bind(autob, (void *)&f, sizeof f));

    l = 4;
    memset(&got, 'q', sizeof got);
    SHOW(getsockname(again, (void *)&got, &l));
    printf("cut: length %u, then %c\n", l, got.sun_path[2]);
    l = -1;
    SHOW(getsockname(again, (void *)&got, &l));
    return done();
}
