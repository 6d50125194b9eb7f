// modes: static dynamic musl
// splice, tee and vmsplice between files and pipes.
#include "../common.h"

int main(void) {
    put_file("in", "0123456789");
    int in = open("in", O_RDONLY), out = open("out", O_RDWR | O_CREAT, 0644), p[2], q[2];
    char b[32] = {0};
    MUST(pipe(p) == 0 && pipe(q) == 0);
    off_t at = 3;
    SHOW(splice(in, &at, p[1], NULL, 4, 0));
    SHOW(at);
    SHOW(tee(p[0], q[1], 100, 0));
    SHOW(splice(p[0], NULL, out, NULL, 100, 0));
    show_file("out");
    SHOW(read(q[0], b, sizeof b));
    puts(b);
    SHOW(splice(in, NULL, p[1], NULL, 2, SPLICE_F_MOVE));
    SHOW(splice(p[0], NULL, q[1], NULL, 2, 0));
    SHOW(read(q[0], b, sizeof b));
    struct iovec v = {"gifted", 6};
    SHOW(vmsplice(p[1], &v, 1, 0));
    SHOW(read(p[0], b, sizeof b));
    printf("%.6s\n", b);
    SHOW(splice(in, NULL, out, NULL, 4, 0));
    SHOW(splice(p[0], NULL, out, NULL, 4, SPLICE_F_NONBLOCK));
    SHOW(splice(p[0], &at, out, NULL, 4, 0));
    SHOW(splice(99, NULL, p[1], NULL, 4, 0));
    SHOW(tee(in, p[1], 4, 0));
    SHOW(splice(in, NULL, p[1], NULL, 0, 0));
    SHOW(splice(in, NULL, p[1], NULL, 4, 0x100));
    close(p[1]);
    SHOW(splice(p[0], NULL, out, NULL, 4, 0));
    return done();
}
