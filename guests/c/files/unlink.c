// modes: static dynamic musl
// unlink and unlinkat; a file stays usable while it is open, its links are counted.
#include "../common.h"

int main(void) {
    char b[16] = {0};
    struct stat st;
    put_file("f", "content");
    MUST(link("f", "g") == 0);
    int fd = open("f", O_RDWR);
    MUST(fstat(fd, &st) == 0);
    printf("links %lu\n", (unsigned long)st.st_nlink);
    SHOW(unlink("f"));
    MUST(fstat(fd, &st) == 0);
    printf("links %lu\n", (unsigned long)st.st_nlink);
    SHOW(unlink("g"));
    MUST(fstat(fd, &st) == 0);
    printf("links %lu\n", (unsigned long)st.st_nlink);
    SHOW(read(fd, b, sizeof b));
    printf("%s\n", b);
    SHOW(pwrite(fd, "more", 4, 100));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(open("f", O_RDONLY));
    char link[64], target[4200] = {0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    MUST(readlink(link, target, sizeof target) > 0);
    CHECK(strstr(target, "/f (deleted)") || strstr(target, "/g (deleted)"));
    int again = open(link, O_RDONLY);
    CHECK(again >= 0);
    SHOW(lseek(again, 0, SEEK_END));
    SHOW(unlink("f"));
    MUST(mkdir("d", 0755) == 0);
    SHOW(unlink("d"));
    SHOW(unlink("d/"));
    put_file("f", "");
    SHOW(unlink("f/"));
    SHOW(unlink("f/x"));
    SHOW(unlink(""));
    SHOW(unlinkat(AT_FDCWD, "f", AT_REMOVEDIR));
    SHOW(unlinkat(99, "f", 0));
    SHOW(syscall(SYS_unlink, BAD));
    SHOW(unlinkat(AT_FDCWD, "f", 0));
    return done();
}
