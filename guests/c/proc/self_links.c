// modes: static dynamic musl
// /proc/self, thread-self, exe, cwd, root, and descriptors by readlink and open.
#include "../common.h"
#include <dirent.h>

int main(void) {
    char b[4096] = {0}, c[4096] = {0}, me[32];
    snprintf(me, sizeof me, "%d", getpid());
    MUST(readlink("/proc/self", b, sizeof b) > 0);
    CHECK(strcmp(b, me) == 0);
    memset(b, 0, sizeof b);
    MUST(readlink("/proc/thread-self", b, sizeof b) > 0);
    snprintf(c, sizeof c, "%d/task/%ld", getpid(), syscall(SYS_gettid));
    CHECK(strcmp(b, c) == 0);
    memset(b, 0, sizeof b);
    MUST(readlink("/proc/self/exe", b, sizeof b) > 0);
    CHECK(b[0] == '/' && strstr(b, "self_links") && access(b, X_OK) == 0);
    struct stat s, t;
    MUST(stat("/proc/self/exe", &s) == 0 && stat(b, &t) == 0);
    CHECK(s.st_ino == t.st_ino && s.st_size == t.st_size);
    memset(b, 0, sizeof b);
    MUST(readlink("/proc/self/cwd", b, sizeof b) > 0 && getcwd(c, sizeof c));
    CHECK(strcmp(b, c) == 0);
    memset(b, 0, sizeof b);
    MUST(readlink("/proc/self/root", b, sizeof b) > 0);
    puts(b);
    int fd = open("/proc/self/exe", O_RDONLY);
    MUST(read(fd, b, 4) == 4);
    CHECK(memcmp(b, "\177ELF", 4) == 0);
    int n = 0;
    bool own = false;
    DIR *d = opendir("/proc/self/fd");
    for (struct dirent *e; (e = readdir(d));) {
        n += e->d_name[0] != '.';
        own |= atoi(e->d_name) == dirfd(d);
    }
    SHOW(n);
    CHECK(own);
    closedir(d);
    SHOW(access("/proc/999999999", F_OK));
    SHOW(access("/proc/self/nothing", F_OK));
    SHOW(open("/proc/self/cmdline", O_WRONLY) == -1 ? errno == EACCES || errno == EPERM || errno == EIO : 0);
    SHOW(mkdir("/proc/self/x", 0755) == -1);
    return done();
}
