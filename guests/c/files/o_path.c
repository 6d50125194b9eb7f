// modes: static dynamic musl
// O_PATH descriptors: good for the at-calls and fstat, EBADF for the rest.
#include "../common.h"

int main(void) {
    put_file("f", "text");
    MUST(mkdir("d", 0755) == 0 && symlink("f", "l") == 0);
    put_file("d/in", "inner");
    int fd = open("f", O_PATH);
    char b[8];
    struct stat st;
    SHOW(read(fd, b, 4));
    SHOW(write(fd, b, 4));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(fstat(fd, &st));
    SHOW(ftruncate(fd, 0));
    SHOW(fchmod(fd, 0600));
    SHOW(fchown(fd, -1, -1));
    SHOW(fsync(fd));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(fcntl(fd, F_SETFL, O_APPEND));
    SHOW(fcntl(fd, F_DUPFD, 30));
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED && errno == EBADF);
    int d = open("d", O_PATH | O_DIRECTORY);
    int in = openat(d, "in", O_RDONLY);
    SHOW(read(in, b, 5));
    SHOW(syscall(SYS_getdents64, d, b, sizeof b));
    SHOW(openat(fd, "x", O_RDONLY));
    int l = open("l", O_PATH | O_NOFOLLOW);
    MUST(fstat(l, &st) == 0);
    CHECK(S_ISLNK(st.st_mode));
    memset(b, 0, sizeof b);
    SHOW(readlinkat(l, "", b, sizeof b));
    puts(b);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int reopened = open(path, O_RDONLY);
    SHOW(read(reopened, b, 4));
    SHOW(open("none", O_PATH));
    SHOW(close(fd));
    return done();
}
