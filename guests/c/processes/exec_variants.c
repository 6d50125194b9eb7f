// modes: static dynamic musl
// execveat with a descriptor, fexecve, execvp by PATH, a null argv, exec of a deleted file, chains of execs.
#include "../common.h"

static pid_t spawn(void (*f)(char **), char **argv) {
    pid_t p = fork();
    if (p == 0) {
        f(argv);
        printf("failed: %s\n", err_name(errno));
        _exit(99);
    }
    return p;
}
extern char **environ;
static void at(char **argv) {
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    char *a[] = {argv[0], "by descriptor", NULL};
    syscall(SYS_execveat, fd, "", a, environ, AT_EMPTY_PATH);
}
static void dir(char **argv) {
    int fd = open("bin", O_PATH);
    char *a[] = {argv[0], "relative to a directory", NULL};
    syscall(SYS_execveat, fd, "prog", a, environ, 0);
}
static void path(char **argv) {
    (void)argv;
    setenv("PATH", "/nonexistent:bin", 1);
    execlp("prog", "prog", "by PATH", NULL);
}
static void link_nofollow(char **argv) {
    char *a[] = {argv[0], "x", NULL};
    syscall(SYS_execveat, AT_FDCWD, "bin/link", a, environ, AT_SYMLINK_NOFOLLOW);
}
static void through_link(char **argv) {
    char *a[] = {argv[0], "through a link", NULL};
    execv("bin/link", a);
}
static void deleted(char **argv) {
    int fd = open("copy", O_RDONLY | O_CLOEXEC);
    unlink("copy");
    char *a[] = {argv[0], "deleted file", NULL};
    fexecve(fd, a, environ);
}
static void chain(char **argv) {
    char *a[] = {argv[0], "chain", "30", NULL};
    execv("/proc/self/exe", a);
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "chain") == 0) {
        int n = atoi(argv[2]);
        char next[16];
        snprintf(next, sizeof next, "%d", n - 1);
        if (n > 0)
            execl("/proc/self/exe", argv[0], "chain", next, NULL);
        puts("end of the chain");
        return 0;
    }
    if (argc > 1) {
        puts(argv[1]);
        return 0;
    }
    MUST(mkdir("bin", 0755) == 0);
    char self[4096] = {0};
    MUST(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    MUST(symlink(self, "bin/link") == 0 && symlink(self, "bin/prog") == 0);
    char cmd[8300];
    int in = open(self, O_RDONLY), out = open("copy", O_WRONLY | O_CREAT, 0755);
    ssize_t n;
    while ((n = read(in, cmd, sizeof cmd)) > 0)
        MUST(write(out, cmd, n) == n);
    close(out);
    void (*all[])(char **) = {at, dir, path, link_nofollow, through_link, deleted, chain};
    for (int i = 0; i < 7; i++)
        wait_show("child", spawn(all[i], argv));
    return done();
}
