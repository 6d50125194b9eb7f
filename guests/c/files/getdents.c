// modes: static dynamic musl
// Listing a directory: every name once, types right, with a tiny buffer, after changes and rewinddir.
#include "../common.h"
#include <dirent.h>

static int by_name(const void *a, const void *b) { return strcmp(a, b); }

static void list(const char *path) {
    static char names[600][32];
    size_t n = 0;
    DIR *d = opendir(path);
    MUST(d);
    struct dirent *e;
    while ((e = readdir(d)))
        snprintf(names[n++], 32, "%.20s type %d", e->d_name, e->d_type);
    closedir(d);
    qsort(names, n, 32, by_name);
    printf("%s has %zu:", path, n);
    for (size_t i = 0; i < n && i < 12; i++)
        printf(" [%s]", names[i]);
    puts("");
}

int main(void) {
    MUST(mkdir("d", 0755) == 0);
    list("d");
    put_file("d/file", "");
    MUST(mkdir("d/sub", 0755) == 0 && symlink("x", "d/link") == 0 && mkfifo("d/fifo", 0644) == 0);
    list("d");
    char name[32];
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "d/many%03d", i);
        put_file(name, "");
    }
    list("d");
    int fd = open("d", O_RDONLY | O_DIRECTORY);
    char buf[256];
    long total = 0, n, calls = 0;
    while ((n = syscall(SYS_getdents64, fd, buf, sizeof buf)) > 0) {
        for (long at = 0; at < n;) {
            struct { uint64_t ino; int64_t off; uint16_t len; uint8_t type; char name[]; } *e = (void *)(buf + at);
            MUST(e->ino != 0 && e->len % 8 == 0 && e->len >= 24);
            total++;
            at += e->len;
        }
        calls++;
    }
    SHOW(n);
    SHOW(total);
    CHECK(calls > 30);
    SHOW(syscall(SYS_getdents64, fd, buf, sizeof buf));
    SHOW(lseek(fd, 0, SEEK_SET));
    CHECK(syscall(SYS_getdents64, fd, buf, sizeof buf) > 0);
    lseek(fd, 0, SEEK_SET);
    SHOW(syscall(SYS_getdents64, fd, buf, 10));
    SHOW(syscall(SYS_getdents64, fd, BAD, 4096));
    SHOW(syscall(SYS_getdents64, 99, buf, sizeof buf));
    int file = open("d/file", O_RDONLY);
    SHOW(syscall(SYS_getdents64, file, buf, sizeof buf));
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "d/many%03d", i);
        MUST(unlink(name) == 0);
    }
    list("d");
    CHECK(opendir("none") == NULL && errno == ENOENT);
    return done();
}
