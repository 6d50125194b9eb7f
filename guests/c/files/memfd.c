// modes: static dynamic
// memfd_create: a file without a name, seals, their order, mappings against seals.
#include "../common.h"

int main(void) {
    int fd = memfd_create("name", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    SHOW(fcntl(fd, F_GETFD));
    SHOW(ftruncate(fd, 8192));
    SHOW(write(fd, "hello", 5));
    char link[64], target[128] = {0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    SHOWN(readlink(link, target, sizeof target));
    puts(target);
    struct stat st;
    MUST(fstat(fd, &st) == 0);
    printf("mode %o links %lu size %ld\n", st.st_mode, (unsigned long)st.st_nlink, (long)st.st_size);
    SHOW(fcntl(fd, F_GET_SEALS));
    char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(m != MAP_FAILED && memcmp(m, "hello", 5) == 0);
    m[0] = 'J';
    char b[8] = {0};
    SHOW(pread(fd, b, 5, 0));
    puts(b);
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    SHOW(ftruncate(fd, 100));
    SHOW(ftruncate(fd, 10000));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    SHOW(ftruncate(fd, 20000));
    SHOW(pwrite(fd, "x", 1, 10000));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    SHOW(munmap(m, 4096));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    SHOW(write(fd, "x", 1));
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
    m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(m != MAP_FAILED);
    SHOW(fcntl(fd, F_GET_SEALS));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    SHOW(fcntl(fd, F_GET_SEALS));
    int plain = memfd_create("", 0);
    SHOW(fcntl(plain, F_GET_SEALS));
    SHOW(fcntl(plain, F_ADD_SEALS, F_SEAL_WRITE));
    int file = open("f", O_RDWR | O_CREAT, 0644);
    SHOW(fcntl(file, F_GET_SEALS));
    SHOW(memfd_create("x", 0x100));
    SHOW(syscall(SYS_memfd_create, BAD, 0));
    char name[300];
    memset(name, 'n', sizeof name);
    name[249] = 0;
    SHOWN(memfd_create(name, 0));
    name[249] = 'n';
    name[250] = 0;
    SHOW(memfd_create(name, 0));
    return done();
}
