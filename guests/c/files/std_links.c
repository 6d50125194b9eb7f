// modes: static dynamic musl
// stdin: some input
// /dev/stdin, /dev/fd and /proc/self/fd open what the numbers mean.
#include "../common.h"

int main(void) {
    char b[64] = {0};
    int in = open("/dev/stdin", O_RDONLY);
    CHECK(in >= 0);
    SHOW(read(in, b, 4));
    puts(b);
    memset(b, 0, sizeof b);
    SHOW(read(0, b, sizeof b));
    puts(b);
    int out = open("/dev/stdout", O_WRONLY);
    CHECK(out >= 0);
    SHOW(write(out, "by name\n", 8));
    put_file("f", "0123456789");
    int fd = open("f", O_RDWR);
    MUST(lseek(fd, 5, SEEK_SET) == 5);
    snprintf(b, sizeof b, "/dev/fd/%d", fd);
    int again = open(b, O_RDONLY);
    SHOW(lseek(again, 0, SEEK_CUR)); /* a new description */
    snprintf(b, sizeof b, "/proc/self/fd/%d", fd);
    char link[4096] = {0}, top[4096];
    MUST(readlink(b, link, sizeof link) > 0 && getcwd(top, sizeof top));
    CHECK(strncmp(link, top, strlen(top)) == 0 && strcmp(link + strlen(top), "/f") == 0);
    int p[2];
    MUST(pipe(p) == 0);
    snprintf(b, sizeof b, "/proc/self/fd/%d", p[1]);
    memset(link, 0, sizeof link);
    MUST(readlink(b, link, sizeof link) > 0);
    CHECK(strncmp(link, "pipe:[", 6) == 0);
    int w = open(b, O_WRONLY);
    SHOW(write(w, "via proc", 8));
    SHOW(read(p[0], link, sizeof link));
    SHOW(open("/proc/self/fd/99", O_RDONLY));
    return done();
}
