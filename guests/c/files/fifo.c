// modes: static dynamic musl
// A named pipe: opens that wait for each other, O_NONBLOCK opens, end of file, EPIPE.
#include "../common.h"

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    SHOW(mkfifo("p", 0600));
    SHOW(mkfifo("p", 0600));
    SHOW(open("p", O_WRONLY | O_NONBLOCK));
    int r = open("p", O_RDONLY | O_NONBLOCK);
    CHECK(r >= 0);
    char b[16] = {0};
    SHOW(read(r, b, 16));
    int w = open("p", O_WRONLY | O_NONBLOCK);
    CHECK(w >= 0);
    SHOW(read(r, b, 16));
    SHOW(write(w, "hello", 5));
    SHOW(read(r, b, 16));
    puts(b);
    SHOW(close(r));
    SHOW(write(w, "x", 1));
    close(w);
    pid_t p = fork();
    if (p == 0) {
        int fd = open("p", O_WRONLY); /* waits for the reader */
        SHOW(write(fd, "from child", 10));
        child_exit(0);
    }
    r = open("p", O_RDONLY);
    memset(b, 0, sizeof b);
    long n = read(r, b, 16);
    wait_show("child", p);
    SHOW(n);
    puts(b);
    SHOW(read(r, b, 16));
    int rw = open("p", O_RDWR);
    CHECK(rw >= 0);
    SHOW(write(rw, "abc", 3));
    SHOW(read(rw, b, 16));
    struct stat st;
    MUST(stat("p", &st) == 0);
    printf("%o\n", st.st_mode);
    SHOW(lseek(rw, 0, SEEK_SET));
    return done();
}
