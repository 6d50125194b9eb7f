// modes: static dynamic musl
// 300 short connections in turn and 100 at once; no descriptor is lost.
#include "../common.h"
#include "../net.h"

int main(void) {
    int l = listener4(), port = port_of(l), fd;
    for (int i = 0; i < 300; i++) {
        int c = dial4(port), s = accept(l, NULL, NULL);
        char b;
        MUST(write(c, "x", 1) == 1 && read(s, &b, 1) == 1);
        close(i % 2 ? c : s);
        close(i % 2 ? s : c);
    }
    SHOW(fd = dup(0));
    close(fd);
    static int c[100], s[100];
    for (int i = 0; i < 100; i++) {
        c[i] = dial4(port);
        s[i] = accept(l, NULL, NULL);
        MUST(write(s[i], &(char){(char)i}, 1) == 1);
    }
    int sum = 0;
    for (int i = 0; i < 100; i++) {
        char b;
        MUST(read(c[i], &b, 1) == 1);
        sum += b;
    }
    SHOW(sum);
    return done();
}
