// modes: static dynamic musl
// Descriptors and credentials over UNIX sockets: SCM_RIGHTS with truncation and flags, SCM_CREDENTIALS, SO_PEERCRED.
#include "../common.h"
#include <sys/socket.h>
#include <sys/un.h>

struct out { union { char c[1024]; struct cmsghdr align; }; };

static ssize_t send_fds(int s, const char *text, const int *fds, int n) {
    struct out o;
    memset(&o, 0, sizeof o);
    struct iovec v = {(void *)text, strlen(text)};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = o.c, .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(c), fds, n * sizeof(int));
    return sendmsg(s, &m, 0);
}

static int last[300];

static void receive(int s, size_t room, int flags) {
    struct out o;
    char text[64];
    struct iovec v = {text, sizeof text};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = room ? o.c : NULL, .msg_controllen = room};
    ssize_t n = recvmsg(s, &m, flags);
    printf("recvmsg %zd %s flags %x control %zu\n", n, n < 0 ? err_name(errno) : "", m.msg_flags, (size_t)m.msg_controllen);
    if (n < 0)
        return;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        printf("  level %d type %d length %zu", c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len);
        if (c->cmsg_type == SCM_RIGHTS) {
            int k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(last, CMSG_DATA(c), k * sizeof(int));
            for (int i = 0; i < k; i++)
                printf(" fd %d%s", last[i], fcntl(last[i], F_GETFD) ? " cloexec" : "");
        } else {
            struct ucred u;
            memcpy(&u, CMSG_DATA(c), sizeof u);
            printf(" pid %s uid %s gid %s", u.pid == getpid() ? "mine" : u.pid == getppid() ? "parent" : u.pid ? "other" : "0",
                   u.uid == getuid() ? "mine" : "other", u.gid == getgid() ? "mine" : "other");
        }
        putchar('\n');
    }
}

int main(void) {
    int s[2], f, p[2];
    char b[16];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s) == 0);
    put_file("f", "contents");
    f = open("f", O_RDONLY);
    SHOW(send_fds(s[0], "one", &f, 1));
    receive(s[1], 256, 0);
    SHOW(lseek(last[0], 3, SEEK_SET));
    SHOW(lseek(f, 0, SEEK_CUR));
    close(last[0]);

    int two[2] = {f, s[0]};
    SHOW(send_fds(s[0], "two", two, 2));
    receive(s[1], 256, MSG_CMSG_CLOEXEC);
    close(last[0]), close(last[1]);

    /* Descriptors stop a read; bytes before and after are separate. */
    SHOW(write(s[0], "aa", 2));
    SHOW(send_fds(s[0], "bb", &f, 1));
    SHOW(write(s[0], "cc", 2));
    SHOW(recv(s[1], b, sizeof b, MSG_PEEK));
    receive(s[1], 256, 0);
    receive(s[1], 256, 0);
    close(last[0]);

    SHOW(send_fds(s[0], "none", &f, 0));
    receive(s[1], 256, 0);
    int bad = 99;
    SHOW(send_fds(s[0], "bad", &bad, 1));
    static int many[254];
    for (int i = 0; i < 254; i++)
        many[i] = f;
    SHOW(send_fds(s[0], "many", many, 254));

    /* Too little room, none, and read() which drops them. */
    int four[4] = {f, f, f, f};
    SHOW(send_fds(s[0], "four", four, 4));
    receive(s[1], CMSG_LEN(2 * sizeof(int)), 0);
    close(last[0]), close(last[1]);
    SHOW(send_fds(s[0], "four", four, 4));
    receive(s[1], CMSG_LEN(0), 0);
    SHOW(send_fds(s[0], "four", four, 4));
    receive(s[1], 0, 0);
    SHOW(send_fds(s[0], "four", four, 4));
    SHOW(read(s[1], b, sizeof b));
    SHOW(dup(f));

    /* A pipe's end in flight keeps the pipe open, and dies with the socket. */
    MUST(pipe2(p, O_NONBLOCK) == 0);
    SHOW(send_fds(s[0], "w", &p[1], 1));
    close(p[1]);
    SHOW(read(p[0], b, 1));
    receive(s[1], 256, MSG_PEEK);
    SHOW(write(last[0], "!", 1));
    SHOW(read(p[0], b, 1));
    close(last[0]);
    SHOW(read(p[0], b, 1));
    close(s[1]);
    SHOW(read(p[0], b, 1));
    close(s[0]);

    /* Credentials. */
    MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, s) == 0);
    struct ucred u;
    socklen_t l = sizeof u;
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &u, &l));
    CHECK(u.pid == getpid() && u.uid == getuid() && u.gid == getgid() && l == sizeof u);
    SHOW(write(s[0], "before", 6));
    int on = 1;
    SHOW(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    SHOW(write(s[0], "after", 5));
    receive(s[1], 256, 0);
    receive(s[1], 256, 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        MUST(write(s[0], "child", 5) == 5);
        MUST(send_fds(s[0], "fd", &f, 1) == 2);
        _exit(0);
    }
    wait_show("child", pid);
    receive(s[1], 256, 0);
    receive(s[1], 256, 0);
    receive(s[1], 256, 0);
    struct out o;
    memset(&o, 0, sizeof o);
    struct iovec v = {b, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = o.c, .msg_controllen = CMSG_SPACE(sizeof u)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_CREDENTIALS, c->cmsg_len = CMSG_LEN(sizeof u);
    memcpy(CMSG_DATA(c), &u, sizeof u);
    SHOW(sendmsg(s[0], &m, 0));
    receive(s[1], 256, 0);
    c->cmsg_len = CMSG_LEN(4);
    SHOW(sendmsg(s[0], &m, 0));
    c->cmsg_len = 2000;
    SHOW(sendmsg(s[0], &m, 0));
    c->cmsg_len = CMSG_LEN(sizeof u);
    c->cmsg_type = 77;
    SHOW(sendmsg(s[0], &m, 0));
    m.msg_iovlen = 2000;
    SHOW(sendmsg(s[0], &m, 0));
    int un = socket(AF_UNIX, SOCK_STREAM, 0);
    l = sizeof u;
    SHOW(getsockopt(un, SOL_SOCKET, SO_PEERCRED, &u, &l));
    printf("%d %d %d\n", u.pid, (int)u.uid, (int)u.gid);
    return done();
}
