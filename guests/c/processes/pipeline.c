// modes: static dynamic musl
// A shell's work by hand: three programs joined by pipes, descriptors moved, all reaped, megabytes through it.
#include "../common.h"

int main(void) {
    int a[2], b[2], c[2];
    MUST(pipe(a) == 0 && pipe(b) == 0 && pipe(c) == 0);
    int *in[3] = {NULL, a, b}, *out[3] = {a, b, c};
    const char *cmd[3] = {"i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done", "grep 7", "wc -l"};
    pid_t p[3];
    for (int i = 0; i < 3; i++)
        if ((p[i] = fork()) == 0) {
            if (in[i])
                dup2(in[i][0], 0);
            dup2(out[i][1], 1);
            for (int fd = 3; fd < 20; fd++)
                close(fd);
            execl("/bin/sh", "sh", "-c", cmd[i], NULL);
            _exit(99);
        }
    close(a[0]), close(a[1]), close(b[0]), close(b[1]), close(c[1]);
    char buf[64] = {0};
    ssize_t n = read(c[0], buf, sizeof buf - 1);
    printf("%.*s", (int)n, buf + strspn(buf, " "));
    SHOW(read(c[0], buf, 1));
    for (int i = 0; i < 3; i++)
        wait_show("stage", p[i]);
    /* megabytes from child to child */
    MUST(pipe(a) == 0 && pipe(b) == 0);
    if (fork() == 0) {
        static char block[10000];
        for (int i = 0; i < 400; i++) {
            memset(block, i, sizeof block);
            MUST(write(a[1], block, sizeof block) == sizeof block);
        }
        _exit(0);
    }
    close(a[1]);
    if (fork() == 0) {
        close(b[0]);
        char block[4096];
        unsigned long total = 0, sum = 0;
        while ((n = read(a[0], block, sizeof block)) > 0) {
            for (int i = 0; i < n; i++)
                sum += (unsigned char)block[i];
            total += (unsigned long)n;
        }
        dprintf(b[1], "%lu bytes, sum %lu\n", total, sum);
        _exit(0);
    }
    close(b[1]);
    memset(buf, 0, sizeof buf);
    (void)!read(b[0], buf, sizeof buf - 1);
    fputs(buf, stdout);
    while (wait(NULL) > 0)
        ;
    return done();
}
