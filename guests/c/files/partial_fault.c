// modes: static dynamic musl
// A buffer that ends at an unmapped page: what could be copied is reported, otherwise EFAULT.
#include "../common.h"

int main(void) {
    char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(m != MAP_FAILED && munmap(m + 4096, 4096) == 0);
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    memset(m, 'x', 4096);
    SHOW(write(fd, m, 4096));
    SHOW(write(fd, m + 4096, 10));
    struct iovec iov[2] = {{m, 100}, {m + 4096, 100}};
    lseek(fd, 0, SEEK_SET);
    SHOW(readv(fd, iov, 2));
    iov[0].iov_base = BAD;
    SHOW(writev(fd, iov, 2));
    SHOW(read(fd, m + 4096, 10));
    int p[2];
    MUST(pipe(p) == 0);
    SHOW(write(p[1], m + 4000, 96));
    SHOW(read(p[0], m + 4096, 96));
    char b[96];
    SHOW(read(p[0], b, 40));
    char *ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    lseek(fd, 0, SEEK_SET);
    SHOW(read(fd, ro, 10));
    SHOW(write(fd, ro, 10));
    char *none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SHOW(write(fd, none, 10));
    SHOW(write(fd, (void *)0xffff800000000000, 10));
    SHOW(write(fd, (void *)-8, 4));
    return done();
}
