/* Both sides of UNIX sockets with names: border ROLE PATH. One of the two runs on the system under test, the other on
 * the host; what they print must not depend on which. */
#include "../../c/common.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

static char *path;

static struct sockaddr_un named(const char *p) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    MUST(strlen(p) < sizeof a.sun_path);
    strcpy(a.sun_path, p);
    return a;
}

static int bound(int kind, const char *p) {
    struct sockaddr_un a = named(p);
    int s = socket(AF_UNIX, kind, 0);
    MUST(s >= 0);
    MUST(bind(s, (void *)&a, sizeof a) == 0);
    return s;
}

static int server(int kind, int backlog) {
    umask(027);
    int s = bound(kind, path);
    struct stat st;
    MUST(stat(path, &st) == 0 && S_ISSOCK(st.st_mode));
    printf("node %o\n", st.st_mode & 0777);
    MUST(listen(s, backlog) == 0);
    return s;
}

/* Tries until somebody listens. */
static int dial(int kind) {
    struct sockaddr_un a = named(path);
    for (int i = 0; i < 1000; i++) {
        int s = socket(AF_UNIX, kind, 0);
        MUST(s >= 0);
        if (connect(s, (void *)&a, sizeof a) == 0)
            return s;
        MUST(errno == ENOENT || errno == ECONNREFUSED);
        close(s);
        sleep_ms(20);
    }
    MUST(!"server came");
    return -1;
}

static void show_name(const char *what, const struct sockaddr_un *a, socklen_t len) {
    const char *slash = len > 2 ? strrchr(a->sun_path, '/') : NULL;
    printf("%s: %s\n", what, len <= 2 ? "no name" : slash ? slash + 1 : a->sun_path);
}

static void show_ends(int s) {
    struct sockaddr_un a;
    socklen_t len = sizeof a;
    MUST(getsockname(s, (void *)&a, &len) == 0);
    show_name("here", &a, len);
    len = sizeof a;
    MUST(getpeername(s, (void *)&a, &len) == 0);
    show_name("there", &a, len);
    struct {
        int pid;
        unsigned uid, gid;
    } c = {0};
    len = sizeof c;
    MUST(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &c, &len) == 0);
    CHECK(c.uid == getuid() && c.gid == getgid());
}

static void show_poll(int s) {
    struct pollfd p = {s, POLLIN | POLLOUT | POLLRDHUP, 0};
    MUST(poll(&p, 1, 0) >= 0);
    printf("poll:%s%s%s%s%s\n", p.revents & POLLIN ? " IN" : "", p.revents & POLLOUT ? " OUT" : "",
           p.revents & POLLERR ? " ERR" : "", p.revents & POLLHUP ? " HUP" : "", p.revents & POLLRDHUP ? " RDHUP" : "");
}

static void wait_events(int s, short events) {
    struct pollfd p = {s, events, 0};
    MUST(poll(&p, 1, 10000) == 1);
}

static void put(int s, const void *b, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t w = write(s, (const char *)b + at, n - at);
        MUST(w > 0);
        at += (size_t)w;
    }
}

static void get(int s, void *b, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t r = read(s, (char *)b + at, n - at);
        MUST(r > 0);
        at += (size_t)r;
    }
}

#define BULK (4u << 20)

static unsigned char pattern(size_t i) { return (unsigned char)(i * 7 + i / 4093); }

static void send_bulk(int s) {
    static unsigned char b[100000];
    for (size_t at = 0; at < BULK;) {
        size_t n = BULK - at < sizeof b ? BULK - at : sizeof b;
        for (size_t i = 0; i < n; i++)
            b[i] = pattern(at + i);
        put(s, b, n);
        at += n;
    }
}

static void check_bulk(int s) {
    static unsigned char b[70000];
    size_t at = 0;
    bool good = true;
    for (ssize_t n; (n = read(s, b, sizeof b)) > 0; at += (size_t)n) {
        for (ssize_t i = 0; i < n; i++)
            good &= b[i] == pattern(at + (size_t)i);
        if (at < 300000)
            sleep_ms(2); /* the writer runs into a full buffer */
    }
    printf("bulk %s\n", good && at == BULK ? "whole" : "damaged");
}

/* Streams: bulk both ways, half close, unread bytes, a peer that is gone. */
static void stream_server(void) {
    int l = server(SOCK_STREAM, 5);
    SHOW(accept4(l, NULL, NULL, 0) >= 0 ? 0 : -1);
    close(3 + 1);
    int s = accept(l, NULL, NULL);
    MUST(s >= 0);
    show_ends(s);
    check_bulk(s); /* until the client's shutdown */
    show_poll(s);
    send_bulk(s);
    close(s);

    s = accept(l, NULL, NULL);
    MUST(s >= 0);
    put(s, "never read", 10);
    char c;
    get(s, &c, 1); /* the client has seen it coming */
    close(s);

    s = accept(l, NULL, NULL);
    MUST(s >= 0);
    get(s, &c, 1);
    wait_events(s, POLLRDHUP);
    sleep_ms(50);
    show_poll(s);
    SHOW(read(s, &c, 1));
    signal(SIGPIPE, SIG_IGN);
    SHOW(send(s, "x", 1, 0));
    close(s);

    int flags = fcntl(l, F_GETFL);
    MUST(fcntl(l, F_SETFL, flags | O_NONBLOCK) == 0);
    SHOW(accept(l, NULL, NULL));
    close(l);
}

static void stream_client(void) {
    close(dial(SOCK_STREAM)); /* only that somebody is there */
    int s = dial(SOCK_STREAM);
    show_ends(s);
    send_bulk(s);
    MUST(shutdown(s, SHUT_WR) == 0);
    check_bulk(s);
    show_poll(s);
    signal(SIGPIPE, SIG_IGN);
    SHOW(write(s, "x", 1));
    close(s);

    s = dial(SOCK_STREAM);
    wait_events(s, POLLIN);
    put(s, "k", 1);
    wait_events(s, POLLRDHUP);
    char b[20] = "";
    SHOW(recv(s, b, sizeof b, MSG_PEEK));
    SHOW(read(s, b, sizeof b));
    SHOW(read(s, b, sizeof b));
    close(s);

    s = dial(SOCK_STREAM);
    put(s, "k", 1);
    close(s);
}

/* Sequenced packets: boundaries, an empty one, a large one, the end. */
static void packet_server(void) {
    int l = server(SOCK_SEQPACKET, 5);
    int s = accept(l, NULL, NULL);
    MUST(s >= 0);
    show_ends(s);
    static char b[200000];
    for (int i = 0; i < 4; i++) {
        ssize_t n = recv(s, b, sizeof b, 0);
        printf("packet of %zd\n", n);
        MUST(n >= 0 && send(s, b, (size_t)n, 0) == n);
    }
    SHOW(recv(s, b, sizeof b, 0));
    show_poll(s);
    close(s);
    close(l);
}

static void packet_client(void) {
    int s = dial(SOCK_SEQPACKET);
    show_ends(s);
    static char b[200000];
    const size_t sizes[] = {3, 0, 60000, 120000};
    for (int i = 0; i < 4; i++) {
        MUST(send(s, b, sizes[i], 0) == (ssize_t)sizes[i]);
        struct iovec v = {b, 100000};
        struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
        ssize_t n = recvmsg(s, &m, 0);
        printf("echo of %zd%s\n", n, m.msg_flags & MSG_TRUNC ? ", cut" : "");
    }
    MUST(shutdown(s, SHUT_WR) == 0);
    SHOW(recv(s, b, sizeof b, 0));
    show_poll(s);
    close(s);
}

/* Datagrams: answers go to the name that came along. */
static void dgram_server(void) {
    int s = bound(SOCK_DGRAM, path);
    puts("bound");
    char b[64];
    for (int i = 0; i < 3; i++) {
        struct sockaddr_un from;
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(s, b, sizeof b, 0, (void *)&from, &len);
        MUST(n >= 0);
        show_name("from", &from, len);
        printf("datagram of %zd\n", n);
        if (len > 2)
            MUST(sendto(s, b, (size_t)n, 0, (void *)&from, len) == n);
    }
    sleep_ms(300); /* the queue of 10 gets full */
    int got = 0;
    for (;;) {
        MUST(recv(s, b, sizeof b, 0) == 5);
        got++;
        if (!memcmp(b, "last", 4))
            break;
    }
    printf("then %d\n", got);
    close(s);
}

static void dgram_client(void) {
    char own[108];
    snprintf(own, sizeof own, "%s.c", path);
    int s = bound(SOCK_DGRAM, own);
    struct sockaddr_un to = named(path);
    for (int i = 0; sendto(s, "one", 3, 0, (void *)&to, sizeof to) != 3; i++) {
        MUST((errno == ENOENT || errno == ECONNREFUSED) && i < 1000);
        sleep_ms(20);
    }
    char b[64];
    struct sockaddr_un from;
    socklen_t len = sizeof from;
    SHOW(recvfrom(s, b, sizeof b, 0, (void *)&from, &len));
    show_name("answer from", &from, len);
    MUST(connect(s, (void *)&to, sizeof to) == 0);
    SHOW(send(s, "", 0, 0));
    SHOW(recv(s, b, sizeof b, 0));
    int u = socket(AF_UNIX, SOCK_DGRAM, 0);
    SHOW(sendto(u, "unnamed", 7, 0, (void *)&to, sizeof to));
    for (int i = 0; i < 40; i++)
        MUST(send(s, "burst", 5, 0) == 5);
    MUST(sendto(u, "last.", 5, 0, (void *)&to, sizeof to) == 5);
    for (int i = 0; i < 500 && (send(s, "x", 1, MSG_DONTWAIT) >= 0 || errno == EAGAIN); i++)
        sleep_ms(20);
    printf("in the end %s\n", err_name(errno));
    unlink(own);
}

/* What is no server: a node that was left, a file, another type, a full queue. */
static void error_server(void) {
    int l = server(SOCK_STREAM, 0);
    sleep_ms(400);
    for (int i = 0; i < 4; i++) {
        int s = accept(l, NULL, NULL);
        MUST(s >= 0);
        char c;
        get(s, &c, 1);
        close(s);
    }
    puts("four");
    close(l);
}

static void error_client(void) {
    struct sockaddr_un a = named(path);
    int fds[4];
    char c;
    for (int i = 0; i < 4; i++) {
        if (i == 3) {
            MUST(read(fds[2], &c, 1) == 0); /* the queue is empty */
            SHOW(connect(fds[0], (void *)&a, sizeof a));
        }
        fds[i] = dial(SOCK_STREAM); /* waits for room in the queue */
        put(fds[i], "k", 1);
    }
    int d = socket(AF_UNIX, SOCK_DGRAM, 0), s = socket(AF_UNIX, SOCK_STREAM, 0), q = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    MUST(read(fds[3], &c, 1) == 0); /* the server ends now */
    sleep_ms(300);
    SHOW(connect(s, (void *)&a, sizeof a));
    SHOW(connect(d, (void *)&a, sizeof a));
    SHOW(connect(q, (void *)&a, sizeof a));
    SHOW(sendto(d, "x", 1, 0, (void *)&a, sizeof a));
    SHOW(bind(s, (void *)&a, sizeof a));
    int fd = open(path, O_RDWR);
    printf("open: %s\n", err_name(fd < 0 ? errno : 0));
    struct sockaddr_un f = named("plain");
    put_file("plain", "x");
    SHOW(connect(s, (void *)&f, sizeof f));
    MUST(unlink(path) == 0);
    SHOW(connect(s, (void *)&a, sizeof a));
    SHOW(bind(s, (void *)&a, sizeof a));
    SHOW(bind(s, (void *)&a, sizeof a));
    SHOW(access(path, F_OK));
}

/* A descriptor for the other side: the client is told what sendmsg gives, the server what arrives. */
static void rights_server(const char *want) {
    int l = server(SOCK_STREAM, 5), s = accept(l, NULL, NULL);
    char c[4], b[CMSG_SPACE(sizeof l)];
    struct iovec v = {c, sizeof c};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = b, .msg_controllen = sizeof b};
    MUST(recvmsg(s, &m, 0) == 2);
    printf("%.2s\n", c);
    const char *got = m.msg_flags & MSG_CTRUNC ? "cut" : m.msg_controllen ? "fd" : "none";
    CHECK(!strcmp(got, want));
    put(s, "seen", 4);
    MUST(read(s, c, 1) == 0);
}

static void rights_client(const char *want) {
    int s = dial(SOCK_STREAM), fd = open("/dev/null", O_RDONLY);
    char b[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec v = {"fd", 2};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = b, .msg_controllen = sizeof b};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    *h = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    const char *got = sendmsg(s, &m, 0) == 2 ? "0" : err_name(errno);
    CHECK(!strcmp(got, want));
    if (strcmp(got, "0"))
        put(s, "fd", 2);
    get(s, b, 4);
}

int main(int argc, char **argv) {
    MUST(argc >= 3);
    const char *role = argv[1];
    path = argv[2];
    alarm(50);
    if (!strcmp(role, "rights-client") || !strcmp(role, "rights-server")) {
        MUST(argc == 4);
        (role[7] == 'c' ? rights_client : rights_server)(argv[3]);
        return done();
    }
    static const struct {
        const char *name;
        void (*run)(void);
    } roles[] = {
        {"stream-server", stream_server}, {"stream-client", stream_client}, {"packet-server", packet_server},
        {"packet-client", packet_client}, {"dgram-server", dgram_server},   {"dgram-client", dgram_client},
        {"error-server", error_server},   {"error-client", error_client},
    };
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (!strcmp(role, roles[i].name)) {
            roles[i].run();
            return done();
        }
    return 2;
}
