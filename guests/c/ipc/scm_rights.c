// modes: static dynamic musl
// Descriptors sent through sockets: one, several, into another process, truncated, close-on-exec, kept in flight.
#include "../common.h"
#include <sys/socket.h>

static ssize_t send_fds(int sock, int *fds, int n, const char *text) {
    char control[CMSG_SPACE(sizeof(int) * 8)] = {0};
    struct iovec v = {(void *)text, strlen(text)};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * n);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    return sendmsg(sock, &m, 0);
}
static int recv_fds(int sock, int *fds, size_t room, int flags) {
    char text[64] = {0}, control[CMSG_SPACE(sizeof(int) * 8)] = {0};
    struct iovec v = {text, sizeof text - 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = room ? CMSG_LEN(sizeof(int) * room) : 0};
    ssize_t n = recvmsg(sock, &m, flags);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    int count = c && c->cmsg_type == SCM_RIGHTS ? (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)) : 0;
    if (count)
        memcpy(fds, CMSG_DATA(c), sizeof(int) * count);
    printf("received %zd [%s] with %d descriptors, truncated %d\n", n, text, count, !!(m.msg_flags & MSG_CTRUNC));
    return count;
}

int main(void) {
    int s[2], fds[8], got[8], p[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && pipe(p) == 0);
    put_file("f", "0123456789");
    fds[0] = open("f", O_RDONLY);
    lseek(fds[0], 4, SEEK_SET);
    SHOW(send_fds(s[0], fds, 1, "one"));
    close(fds[0]); /* in flight it lives on */
    recv_fds(s[1], got, 8, 0);
    SHOW(lseek(got[0], 0, SEEK_CUR));
    SHOW(fcntl(got[0], F_GETFD));
    fds[0] = p[0], fds[1] = p[1], fds[2] = got[0];
    SHOW(send_fds(s[0], fds, 3, "three"));
    recv_fds(s[1], got, 8, MSG_CMSG_CLOEXEC);
    SHOW(fcntl(got[1], F_GETFD));
    SHOW(write(got[1], "through", 7));
    char b[16] = {0};
    SHOW(read(p[0], b, sizeof b));
    puts(b);
    SHOW(send_fds(s[0], fds, 3, "cut"));
    recv_fds(s[1], got, 1, 0);
    SHOW(send_fds(s[0], fds, 1, "lost"));
    recv_fds(s[1], got, 0, 0);
    SHOW(send_fds(s[0], fds, 1, "aaa"));
    SHOW(write(s[0], "bbb", 3));
    recv_fds(s[1], got, 8, 0); /* does not read beyond a message with descriptors */
    recv_fds(s[1], got, 8, 0);
    fds[0] = 99;
    SHOW(send_fds(s[0], fds, 1, "bad"));
    pid_t c = fork();
    if (c == 0) {
        close(s[0]);
        recv_fds(s[1], got, 8, 0);
        SHOW(write(got[0], "from the child", 14));
        child_exit(0);
    }
    int out = open("made", O_CREAT | O_RDWR, 0644);
    MUST(send_fds(s[0], &out, 1, "to child") == 8);
    wait_show("child", c);
    show_file("made");
    /* the socket itself travels; then everything is closed and nothing leaks or loops */
    MUST(send_fds(s[0], s, 2, "itself") == 6);
    close(s[0]), close(s[1]);
    return done();
}
