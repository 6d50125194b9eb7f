// modes: static dynamic musl
// readv, writev, preadv, pwritev, preadv2, pwritev2, with their limits and errors.
#include "../common.h"

int main(void) {
    char a[4] = "abc", b[8] = "defghij", c[16];
    struct iovec w[3] = {{a, 3}, {NULL, 0}, {b, 7}};
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    SHOW(writev(fd, w, 3));
    show_file("f");
    struct iovec r[2] = {{c, 4}, {c + 8, 8}};
    memset(c, '.', sizeof c);
    lseek(fd, 0, SEEK_SET);
    SHOW(readv(fd, r, 2));
    printf("%.16s\n", c);
    SHOW(readv(fd, r, 2));
    SHOW(pwritev(fd, w, 3, 5));
    show_file("f");
    memset(c, '.', sizeof c);
    SHOW(preadv(fd, r, 2, 6));
    printf("%.16s\n", c);
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(preadv(fd, r, 2, -1));
    SHOW(syscall(SYS_preadv2, fd, r, 2, -1L, 0L, 0));
    lseek(fd, 1, SEEK_SET);
    SHOW(syscall(SYS_preadv2, fd, r, 1, -1L, 0L, 0));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(syscall(SYS_pwritev2, fd, w, 1, 0L, 0L, 0x10)); /* RWF_APPEND */
    show_file("f");
    SHOW(syscall(SYS_pwritev2, fd, w, 1, 0L, 0L, 0x40000000));
    SHOW(readv(fd, r, 0));
    SHOW(readv(fd, r, -1));
    SHOW(syscall(SYS_readv, fd, r, 1025));
    SHOW(syscall(SYS_readv, fd, BAD, 1));
    SHOW(readv(99, r, 1));
    r[0].iov_len = (size_t)-1;
    SHOW(readv(fd, r, 2));
    static struct iovec many[1024];
    static char bytes[1024];
    for (int i = 0; i < 1024; i++) {
        bytes[i] = 'a' + i % 26;
        many[i] = (struct iovec){bytes + i, 1};
    }
    SHOW(ftruncate(fd, 0));
    SHOW(pwritev(fd, many, 1024, 0));
    SHOW(lseek(fd, 0, SEEK_END));
    return done();
}
