// modes: static dynamic musl
// System calls that read and write straight from mapped files, shared memory and each other's pages.
#include "../common.h"
#include <sys/socket.h>

int main(void) {
    int fd = open("f", O_RDWR | O_CREAT, 0644), s[2];
    MUST(ftruncate(fd, 16384) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    char *m = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    memset(m, 'm', 8192);
    SHOW(write(s[0], m, 8192));
    SHOW(recv(s[1], m + 8192, 8192, MSG_WAITALL));
    CHECK(memcmp(m, m + 8192, 8192) == 0);
    SHOW(pwrite(fd, m + 1, 100, 0)); /* from a page of the file into the file */
    SHOW(pread(fd, m + 4096, 4096, 0));
    int z = open("/dev/zero", O_RDONLY);
    SHOW(read(z, m + 12288, 4096));
    char b[4];
    SHOW(pread(fd, b, 4, 12288));
    printf("%d\n", b[0] | b[1] | b[2] | b[3]);
    char *ro = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    SHOW(read(z, ro, 10));
    struct iovec l = {b, 4}, r = {m + 8192, 4};
    long n = syscall(SYS_process_vm_readv, getpid(), &l, 1L, &r, 1L, 0L);
    CHECK(n == 4 ? memcmp(b, "mmmm", 4) == 0 : errno == ENOSYS || errno == EPERM);
    return done();
}
