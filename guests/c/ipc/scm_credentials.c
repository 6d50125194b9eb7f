// modes: static dynamic musl
// SO_PASSCRED and SCM_CREDENTIALS: added by the kernel, checked when given.
#include "../common.h"
#include <sys/socket.h>
#ifndef SCM_CREDENTIALS
#define SCM_CREDENTIALS 2
#endif
struct cred { int pid; unsigned uid, gid; };

static void receive(int fd) {
    char text[16] = {0}, control[64] = {0};
    struct iovec v = {text, sizeof text - 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &m, 0);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    printf("%zd [%s]", n, text);
    if (c && c->cmsg_type == SCM_CREDENTIALS) {
        struct cred k;
        memcpy(&k, CMSG_DATA(c), sizeof k);
        printf(" pid %s uid %d gid %d\n", k.pid == getpid() ? "mine" : k.pid == 0 ? "none" : "other", k.uid == getuid(), k.gid == getgid());
    } else
        puts(" no credentials");
}
static ssize_t send_cred(int fd, struct cred k) {
    char control[CMSG_SPACE(sizeof k)] = {0};
    struct iovec v = {"given", 5};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof k), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS};
    memcpy(CMSG_DATA(c), &k, sizeof k);
    return sendmsg(fd, &m, 0);
}

int main(void) {
    int s[2], on = 1;
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
    SHOW(send(s[0], "plain", 5, 0));
    receive(s[1]);
    SHOW(setsockopt(s[1], SOL_SOCKET, 16, &on, sizeof on)); /* SO_PASSCRED */
    SHOW(send(s[0], "added", 5, 0));
    receive(s[1]);
    SHOW(send_cred(s[0], (struct cred){getpid(), getuid(), getgid()}));
    receive(s[1]);
    pid_t c = fork();
    if (c == 0) {
        MUST(send(s[0], "child", 5, 0) == 5);
        _exit(0);
    }
    wait_show("child", c);
    receive(s[1]);
    if (getuid() == 0)
        MUST(setgid(12345) == 0 && setuid(12345) == 0);
    SHOW(send_cred(s[0], (struct cred){getpid(), 0, 0}));
    SHOW(send_cred(s[0], (struct cred){1, getuid(), getgid()}));
    return done();
}
