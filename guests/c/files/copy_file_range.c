// modes: static dynamic
// copy_file_range: offsets, positions, overlap and its errors.
#include "../common.h"

int main(void) {
    put_file("in", "0123456789");
    int in = open("in", O_RDWR), out = open("out", O_RDWR | O_CREAT, 0644);
    off64_t a = 2, b = 4;
    SHOW(copy_file_range(in, &a, out, &b, 3, 0));
    printf("%ld %ld\n", (long)a, (long)b);
    SHOW(lseek(out, 0, SEEK_END));
    SHOW(copy_file_range(in, NULL, out, NULL, 4, 0));
    SHOW(lseek(in, 0, SEEK_CUR));
    char c[16] = {0};
    SHOW(pread(out, c, sizeof c, 0));
    CHECK(memcmp(c, "\0\0\0\0" "2340123", 11) == 0);
    a = 10;
    SHOW(copy_file_range(in, &a, out, NULL, 4, 0));
    a = 0, b = 5;
    SHOW(copy_file_range(in, &a, in, &b, 5, 0));
    show_file("in");
    a = 0, b = 2;
    SHOW(copy_file_range(in, &a, in, &b, 5, 0));
    SHOW(copy_file_range(in, NULL, out, NULL, 4, 1));
    SHOW(copy_file_range(99, NULL, out, NULL, 4, 0));
    int ro = open("out", O_RDONLY), ap = open("out", O_WRONLY | O_APPEND), p[2], dir = open(".", O_RDONLY);
    MUST(pipe(p) == 0);
    SHOW(copy_file_range(in, NULL, ro, NULL, 4, 0));
    SHOW(copy_file_range(in, NULL, ap, NULL, 4, 0));
    SHOW(copy_file_range(in, NULL, p[1], NULL, 4, 0));
    SHOW(copy_file_range(dir, NULL, out, NULL, 4, 0));
    return done();
}
