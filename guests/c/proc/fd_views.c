// modes: static dynamic musl
// /proc/self/fd and fdinfo follow descriptors: names of pipes, sockets, anonymous inodes, positions and flags.
#include "../common.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static void name(int fd) {
    char path[64], b[4096] = {0};
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    MUST(readlink(path, b, sizeof b - 1) > 0);
    char *digits = strchr(b, '[');
    if (digits && strchr("0123456789", digits[1]))
        digits[1] = 0; /* inode numbers differ */
    printf("%d -> %s\n", fd, b[0] == '/' && strrchr(b, '/') != b ? strrchr(b, '/') : b);
}

int main(void) {
    int p[2], s[2];
    put_file("f", "0123456789");
    int f = open("f", O_RDWR | O_APPEND | O_CLOEXEC);
    MUST(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    name(f);
    name(p[0]);
    name(s[0]);
    name(epoll_create1(0));
    name(eventfd(0, 0));
    name(timerfd_create(CLOCK_MONOTONIC, 0));
    name(open("/dev/null", O_RDONLY));
    name(open(".", O_PATH) > 0 ? f : f);
    lseek(f, 6, SEEK_SET);
    char path[64], b[1024] = {0};
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", f);
    int fd = open(path, O_RDONLY);
    MUST(read(fd, b, sizeof b - 1) > 0);
    long pos = -1;
    unsigned flags = 0;
    CHECK(sscanf(b, "pos: %ld flags: %o", &pos, &flags) == 2);
    printf("pos %ld flags %o\n", pos, flags);
    close(f);
    SHOW(access(path, F_OK));
    struct stat a, c;
    snprintf(path, sizeof path, "/proc/self/fd/%d", p[0]);
    MUST(stat(path, &a) == 0 && fstat(p[0], &c) == 0 && lstat(path, &c) == 0);
    CHECK(S_ISFIFO(a.st_mode) && S_ISLNK(c.st_mode));
    return done();
}
