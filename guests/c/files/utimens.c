// modes: static dynamic musl
// utimensat, futimens, utimes: exact times, NOW and OMIT, and which calls touch which time.
#include "../common.h"

static void times(const char *path) {
    struct stat st;
    MUST(lstat(path, &st) == 0);
    printf("%s: atime %ld.%09ld mtime %ld.%09ld\n", path, (long)st.st_atim.tv_sec, st.st_atim.tv_nsec,
           (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

int main(void) {
    put_file("f", "x");
    MUST(symlink("f", "l") == 0);
    struct timespec t[2] = {{1000, 1}, {2000, 999999999}};
    SHOW(utimensat(AT_FDCWD, "f", t, 0));
    times("f");
    t[0].tv_nsec = UTIME_OMIT;
    t[1] = (struct timespec){3000, 5};
    SHOW(utimensat(AT_FDCWD, "l", t, 0));
    times("f");
    t[0] = (struct timespec){7, 7};
    SHOW(utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW));
    times("l");
    times("f");
    int fd = open("f", O_RDWR);
    t[1].tv_nsec = UTIME_OMIT;
    SHOW(futimens(fd, t));
    times("f");
    struct timeval tv[2] = {{10, 20}, {30, 40}};
    SHOW(utimes("f", tv));
    times("f");
    time_t before = time(NULL);
    struct stat st;
    SHOW(write(fd, "y", 1));
    MUST(fstat(fd, &st) == 0);
    CHECK(st.st_mtim.tv_sec >= before - 2 && st.st_atim.tv_sec == 10);
    CHECK(st.st_ctim.tv_sec >= before - 2);
    SHOW(utimensat(AT_FDCWD, "f", NULL, 0));
    MUST(fstat(fd, &st) == 0);
    CHECK(st.st_atim.tv_sec >= before - 2);
    t[0] = (struct timespec){5, 5};
    t[1] = (struct timespec){0, UTIME_NOW};
    SHOW(utimensat(AT_FDCWD, "f", t, 0));
    MUST(fstat(fd, &st) == 0);
    CHECK(st.st_atim.tv_sec == 5 && st.st_mtim.tv_sec >= before - 2);
    t[0].tv_nsec = 1000000000;
    SHOW(utimensat(AT_FDCWD, "f", t, 0));
    SHOW(utimensat(AT_FDCWD, "none", NULL, 0));
    SHOW(utimensat(99, "f", NULL, 0));
    SHOW(syscall(SYS_utimensat, AT_FDCWD, "f", BAD, 0));
    SHOW(utimensat(AT_FDCWD, "f", NULL, 0x40000000));
    return done();
}
