// modes: static dynamic musl
// MSG_PEEK, WAITALL, DONTWAIT, TRUNC, MORE, OOB refusal; sendmsg, recvmsg, sendmmsg, recvmmsg on TCP and UDP.
#include "../common.h"
#include "../net.h"
#include <sys/ioctl.h>

int main(void) {
    int l = listener4(), c = dial4(port_of(l)), s = accept(l, NULL, NULL);
    char a[8] = {0}, b[16] = {0};
    SHOW(recv(s, b, 1, MSG_DONTWAIT));
    SHOW(send(c, "ab", 2, MSG_MORE));
    SHOW(send(c, "cdef", 4, 0));
    SHOW(recv(s, b, 6, MSG_PEEK | MSG_WAITALL));
    puts(b);
    int n;
    SHOW(ioctl(s, FIONREAD, &n));
    SHOW(n);
    struct iovec v[2] = {{a, 2}, {b, 4}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
    SHOW(recvmsg(s, &m, 0));
    printf("%.2s %.4s\n", a, b);
    SHOW(sendmsg(c, &m, 0));
    SHOW(recv(s, b, 6, MSG_WAITALL | MSG_TRUNC)); /* TCP: discards */
    m.msg_iovlen = 5000;
    SHOW(sendmsg(c, &m, 0));
    SHOW(syscall(SYS_sendmsg, c, BAD, 0));
    m = (struct msghdr){.msg_iov = BAD, .msg_iovlen = 1};
    SHOW(sendmsg(c, &m, 0));
    int u = socket(AF_INET, SOCK_DGRAM, 0), w = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in addr = loop4(0);
    MUST(bind(u, (void *)&addr, sizeof addr) == 0);
    addr = loop4(port_of(u));
    MUST(connect(w, (void *)&addr, sizeof addr) == 0);
    struct mmsghdr mm[3] = {0};
    char *texts[] = {"one", "two!", "three"}, in[3][8] = {{0}};
    struct iovec tv[3], rv[3];
    for (int i = 0; i < 3; i++) {
        tv[i] = (struct iovec){texts[i], strlen(texts[i])};
        mm[i].msg_hdr = (struct msghdr){.msg_iov = &tv[i], .msg_iovlen = 1};
    }
    SHOW(sendmmsg(w, mm, 3, 0));
    SHOW(mm[2].msg_len);
    memset(mm, 0, sizeof mm);
    for (int i = 0; i < 3; i++) {
        rv[i] = (struct iovec){in[i], 4};
        mm[i].msg_hdr = (struct msghdr){.msg_iov = &rv[i], .msg_iovlen = 1};
    }
    MUST(wait_for(u, POLLIN));
    SHOW(recvmmsg(u, mm, 3, MSG_DONTWAIT, NULL));
    for (int i = 0; i < 3; i++)
        printf("%u [%.4s] truncated %d\n", mm[i].msg_len, in[i], !!(mm[i].msg_hdr.msg_flags & MSG_TRUNC));
    SHOW(recvmmsg(u, mm, 3, MSG_DONTWAIT, NULL));
    return done();
}
