// modes: static dynamic musl
// The same part of the same file read many times: while it stays, is overwritten in place, grows, shrinks, is replaced.
#include "../common.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

enum { TIMES = 20 };

static unsigned long sum(const unsigned char *b, long n) {
    unsigned long h = 5381;
    for (long i = 0; i < n; i++)
        h = h * 33 + b[i];
    return h;
}

// As a server does for each request: opened, read, closed.
static void served(const char *name, size_t most) {
    static unsigned char b[20000];
    long n = 0;
    unsigned long h = 0;
    for (int i = 0; i < TIMES; i++) {
        int fd = open(name, O_RDONLY);
        MUST(fd >= 0);
        memset(b, i, sizeof b);
        long got = pread(fd, b, most, 0);
        MUST(got >= 0 && b[got] == (unsigned char)i);
        if (i > 0)
            MUST(got == n && sum(b, got) == h);
        n = got;
        h = sum(b, got);
        close(fd);
    }
    printf("%s: %ld bytes, %lx\n", name, n, h);
}

static void fill(const char *name, char with, int n) {
    char b[20000];
    memset(b, with, sizeof b);
    int fd = open(name, O_RDWR | O_CREAT, 0644);
    MUST(fd >= 0 && pwrite(fd, b, n, 0) == n && ftruncate(fd, n) == 0);
    close(fd);
}

int main(void) {
    fill("page", 'a', 612);
    served("page", 4096);
    fill("page", 'b', 612);
    served("page", 4096);
    served("page", 100);
    fill("page", 'c', 700);
    served("page", 4096);
    fill("page", 'd', 10);
    served("page", 4096);
    fill("page", 'e', 0);
    served("page", 4096);
    fill("other", 'f', 612);
    MUST(rename("other", "page") == 0);
    served("page", 4096);
    // More than anybody would keep.
    fill("long", 'g', 9000);
    served("long", 16384);
    fill("long", 'h', 3000);
    served("long", 16384);

    // By turns in one open file, one byte of it changed in between.
    int fd = open("page", O_RDWR);
    unsigned char a[300], b[312];
    struct iovec v[] = {{a, sizeof a}, {b, sizeof b}};
    for (int i = 0; i < TIMES; i++) {
        unsigned char c = i;
        if (i % 5 == 4)
            MUST(pwrite(fd, &c, 1, 305) == 1);
        MUST(preadv(fd, v, 2, 0) == 612);
        printf("%lx %lx\n", sum(a, sizeof a), sum(b, sizeof b));
    }

    // Without memory of the program's own.
    int out = open("copy", O_RDWR | O_CREAT, 0644);
    for (int i = 0; i < TIMES; i++) {
        off_t at = 0;
        if (i == TIMES / 2)
            fill("page", 'i', 612);
        MUST(sendfile(out, fd, &at, 612) == 612);
    }
    static unsigned char all[TIMES * 612];
    MUST(pread(out, all, sizeof all, 0) == sizeof all);
    printf("%lx\n", sum(all, sizeof all));

    // Memory that cannot be written, between reads that were as before.
    for (int i = 0; i < 4; i++) {
        SHOW(syscall(SYS_pread64, fd, BAD, 612L, 0L));
        SHOW(pread(fd, all, 612, 0));
        SHOW(pread(fd, all, 612, 612));
    }
    return done();
}
