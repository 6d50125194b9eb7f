// modes: static dynamic musl
// sendfile: with and without an offset, to a pipe, a file, a socket; errors.
#include "../common.h"
#include <sys/sendfile.h>
#include <sys/socket.h>

int main(void) {
    put_file("in", "0123456789");
    int in = open("in", O_RDONLY), out = open("out", O_RDWR | O_CREAT, 0644), p[2], s[2];
    off_t at = 2;
    SHOW(sendfile(out, in, &at, 3));
    SHOW(at);
    SHOW(lseek(in, 0, SEEK_CUR));
    SHOW(sendfile(out, in, NULL, 4));
    SHOW(lseek(in, 0, SEEK_CUR));
    show_file("out");
    SHOW(sendfile(out, in, NULL, 1000));
    SHOW(sendfile(out, in, NULL, 1000));
    show_file("out");
    MUST(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    at = 0;
    SHOW(sendfile(p[1], in, &at, 5));
    char b[16] = {0};
    SHOW(read(p[0], b, sizeof b));
    puts(b);
    at = 5;
    SHOW(sendfile(s[0], in, &at, 5));
    memset(b, 0, sizeof b);
    SHOW(read(s[1], b, sizeof b));
    puts(b);
    at = -1;
    SHOW(sendfile(out, in, &at, 5));
    at = 0;
    SHOW(sendfile(out, 99, &at, 5));
    SHOW(sendfile(99, in, &at, 5));
    SHOW(sendfile(in, out, &at, 5));
    SHOW(sendfile(out, p[0], NULL, 5));
    SHOW(sendfile(out, s[0], NULL, 5));
    SHOW(syscall(SYS_sendfile, out, in, BAD, 5L));
    int ap = open("out", O_WRONLY | O_APPEND);
    SHOW(sendfile(ap, in, &at, 5));
    int dir = open(".", O_RDONLY);
    SHOW(sendfile(out, dir, NULL, 5));
    return done();
}
