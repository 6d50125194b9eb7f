// modes: static dynamic musl
// A shared file mapping is one memory for parent, child and a stranger who opens the file; a private one is not.
#include "../common.h"

int main(void) {
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    MUST(ftruncate(fd, 8192) == 0);
    volatile int *s = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    volatile int *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    s[0] = 1;
    p[1] = 10;
    pid_t c = fork();
    if (c == 0) {
        CHECK(s[0] == 1 && p[1] == 10);
        s[0] = 2;
        p[1] = 20;
        int other = open("f", O_RDWR);
        volatile int *again = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, other, 4096);
        again[0] = 3;
        child_exit(0);
    }
    wait_show("child", c);
    SHOW(s[0]);
    SHOW(s[1024]);
    SHOW(p[1]);
    s[2] = 77;
    int v;
    MUST(pread(fd, &v, 4, 8) == 4);
    SHOW(v);
    v = 78;
    MUST(pwrite(fd, &v, 4, 8) == 4);
    SHOW(s[2]);
    SHOW(unlink("f"));
    c = fork();
    if (c == 0) {
        s[3] = 99;
        _exit(0);
    }
    wait_show("child", c);
    SHOW(s[3]);
    return done();
}
