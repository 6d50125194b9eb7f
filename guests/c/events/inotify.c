// modes: static dynamic musl
// inotify: create, write, move, delete in a directory.
#include "../common.h"
#include <poll.h>
#include <sys/inotify.h>

static int fd;
static void events(void) {
    char buf[4096] __attribute__((aligned(8)));
    struct pollfd p = {fd, POLLIN, 0};
    while (poll(&p, 1, 0) == 1) {
        ssize_t n = read(fd, buf, sizeof buf);
        for (ssize_t at = 0; at < n;) {
            struct inotify_event *e = (void *)(buf + at);
            printf("  mask %#x name %s cookie %d\n", e->mask, e->len ? e->name : "-", e->cookie != 0);
            at += (ssize_t)(sizeof *e + e->len);
        }
    }
}

int main(void) {
    fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    MUST(mkdir("d", 0755) == 0);
    int w = inotify_add_watch(fd, "d", IN_CREATE | IN_DELETE | IN_MOVE | IN_CLOSE_WRITE);
    CHECK(w == 1);
    put_file("d/a", "x");
    events();
    MUST(rename("d/a", "d/b") == 0);
    events();
    MUST(unlink("d/b") == 0);
    events();
    SHOW(inotify_rm_watch(fd, w));
    events();
    SHOW(inotify_rm_watch(fd, w));
    SHOW(inotify_add_watch(fd, "none", IN_CREATE));
    SHOW(inotify_add_watch(fd, "d", 0));
    char b[16];
    SHOW(read(fd, b, 16));
    return done();
}
