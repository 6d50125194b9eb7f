// modes: static dynamic musl
// Holes read as zeroes, cost no blocks, and SEEK_HOLE and SEEK_DATA agree with what was written.
#include "../common.h"

int main(void) {
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    static char page[4096], back[4096];
    memset(page, 'd', sizeof page);
    SHOW(pwrite(fd, page, 4096, 1 << 20));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(pread(fd, back, 4096, 4096));
    CHECK(memcmp(back, (char[4096]){0}, 4096) == 0);
    SHOW(pread(fd, back, 4096, (1 << 20) - 100));
    CHECK(back[99] == 0 && back[100] == 'd');
    struct stat st;
    MUST(fstat(fd, &st) == 0);
    CHECK(st.st_size == (1 << 20) + 4096);
    CHECK(st.st_blocks * 512 < 1 << 18);
    off_t hole = lseek(fd, 0, SEEK_HOLE), data = lseek(fd, 0, SEEK_DATA);
    CHECK(hole == 0 || hole == st.st_size);
    CHECK(data == 1 << 20 || data == 0);
    SHOW(lseek(fd, 1 << 20, SEEK_DATA));
    SHOW(lseek(fd, 1 << 20, SEEK_HOLE));
    SHOW(lseek(fd, st.st_size, SEEK_DATA));
    SHOW(lseek(fd, st.st_size, SEEK_HOLE));
    SHOW(lseek(fd, -1, SEEK_DATA));
    return done();
}
