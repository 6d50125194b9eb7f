// modes: static dynamic musl
// Offsets beyond 4 GiB, sixteen megabytes written and read back, RLIMIT_FSIZE with SIGXFSZ and EFBIG.
#include "../common.h"

static volatile sig_atomic_t hits;
static void on_xfsz(int s) { (void)s, hits++; }

int main(void) {
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    SHOW(pwrite(fd, "far", 3, 5LL << 32));
    SHOW(lseek(fd, 0, SEEK_END));
    char b[4] = {0};
    SHOW(pread(fd, b, 3, 5LL << 32));
    puts(b);
    SHOW(ftruncate(fd, 0));
    SHOW(lseek(fd, 0, SEEK_SET));
    static unsigned char block[65536], back[65536];
    unsigned sum = 0, again = 0;
    for (int i = 0; i < 256; i++) {
        memset(block, i, sizeof block);
        MUST(write(fd, block, sizeof block) == sizeof block);
        sum = sum * 31 + (unsigned)i;
    }
    lseek(fd, 0, SEEK_SET);
    for (int i = 0; i < 256; i++) {
        MUST(read(fd, back, sizeof back) == sizeof back && back[0] == back[65535]);
        again = again * 31 + back[0];
    }
    CHECK(sum == again);
    SHOW(ftruncate(fd, 0));
    signal(SIGXFSZ, on_xfsz);
    struct rlimit r = {1000, RLIM_INFINITY};
    SHOW(setrlimit(RLIMIT_FSIZE, &r));
    lseek(fd, 0, SEEK_SET);
    SHOW(write(fd, block, 2000));
    SHOW(write(fd, block, 1));
    SHOW(ftruncate(fd, 1001));
    SHOW(hits);
    SHOW(pwrite(fd, block, 10, 995));
    return done();
}
