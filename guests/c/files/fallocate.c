// modes: static dynamic musl
// fallocate: grow, keep the size, punch a hole, zero a range, and its errors; posix_fallocate.
#include "../common.h"

int main(void) {
    struct stat st;
    char b[16];
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    SHOW(fallocate(fd, 0, 0, 10000));
    SHOW(lseek(fd, 0, SEEK_END));
    MUST(fstat(fd, &st) == 0);
    CHECK(st.st_blocks * 512 >= 10000);
    SHOW(fallocate(fd, 1, 10000, 10000)); /* KEEP_SIZE */
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(ftruncate(fd, 0));
    static char data[16384];
    memset(data, 'd', sizeof data);
    SHOW(write(fd, data, sizeof data));
    SHOW(fallocate(fd, 3, 4096, 4096)); /* PUNCH_HOLE | KEEP_SIZE */
    SHOW(pread(fd, b, 4, 4094));
    printf("%d %d %d %d\n", b[0], b[1], b[2], b[3]);
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(fallocate(fd, 2, 0, 4096));
    SHOW(fallocate(fd, 0, 0, 0));
    SHOW(fallocate(fd, 0, -1, 10));
    SHOW(fallocate(fd, 0, 10, -1));
    SHOW(fallocate(99, 0, 0, 10));
    int ro = open("f", O_RDONLY), p[2];
    SHOW(fallocate(ro, 0, 0, 10));
    MUST(pipe(p) == 0);
    SHOW(fallocate(p[1], 0, 0, 10));
    SHOW(fallocate(fd, 0x40000000, 0, 10));
    int dir = open(".", O_RDONLY);
    SHOW(fallocate(dir, 0, 0, 10));
    SHOWE(posix_fallocate(fd, 16384, 100));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOWE(posix_fallocate(fd, 0, 0));
    SHOWE(posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
    SHOWE(posix_fadvise(fd, 0, 0, 99));
    SHOWE(posix_fadvise(p[0], 0, 0, 0));
    SHOW(fsync(fd));
    SHOW(fdatasync(fd));
    SHOW(fsync(p[0]));
    SHOW(fdatasync(99));
    SHOW(sync_file_range(fd, 0, 100, SYNC_FILE_RANGE_WRITE));
    SHOW(syncfs(fd));
    return done();
}
