// modes: static dynamic musl
// What clone shares and what not: files, working directory, signal actions, memory; unshare; kcmp says the same.
#include "../common.h"
#include <sched.h>
#include <sys/syscall.h>

static char stack[65536] __attribute__((aligned(16)));
static volatile int cell;
static int sync_fd[2];
static void nothing(int s) { (void)s; }

static int body(void *p) {
    (void)p;
    cell = 2;
    dup2(1, 50);
    if (chdir("/") != 0)
        return 1;
    signal(SIGUSR1, nothing);
    return 3;
}
static void run(const char *what, int flags) {
    cell = 1;
    close(50);
    MUST(chdir("/tmp") == 0);
    signal(SIGUSR1, SIG_IGN);
    pid_t p = clone(body, stack + sizeof stack, flags | SIGCHLD, NULL);
    MUST(p > 0);
    wait_show(what, p);
    char d[100];
    MUST(getcwd(d, sizeof d) != NULL);
    struct sigaction sa;
    sigaction(SIGUSR1, NULL, &sa);
    printf("memory %d, fd 50 %s, directory %s, action %s\n", cell, fcntl(50, F_GETFD) >= 0 ? "there" : "not there", d,
           sa.sa_handler == SIG_IGN ? "kept" : "changed");
}
static long kcmp(pid_t a, pid_t b, int kind, long i, long j) { return syscall(SYS_kcmp, a, b, kind, i, j); }

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    run("nothing shared", 0);
    run("memory", CLONE_VM);
    run("files", CLONE_FILES);
    run("directory", CLONE_FS);
    run("memory and actions", CLONE_VM | CLONE_SIGHAND);
    run("all", CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SIGHAND);
    run("all, vfork", CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_FS);
    SHOW(clone(body, stack + sizeof stack, CLONE_FS | CLONE_NEWNS | SIGCHLD, NULL));
    SHOW(clone(body, stack + sizeof stack, CLONE_PARENT_SETTID | CLONE_PIDFD | SIGCHLD, NULL, &cell));

    MUST(pipe(sync_fd) == 0);
    pid_t p = fork();
    if (p == 0) {
        char c;
        MUST(read(sync_fd[0], &c, 1) == 1);
        _exit(0);
    }
    SHOW(kcmp(getpid(), getpid(), 1, 0, 0));
    CHECK(kcmp(getpid(), p, 1, 0, 0) > 0);
    CHECK(kcmp(getpid(), p, 2, 0, 0) > 0);
    SHOW(kcmp(getpid(), p, 0, sync_fd[0], sync_fd[0]));
    CHECK(kcmp(getpid(), p, 0, sync_fd[0], sync_fd[1]) > 0);
    SHOW(kcmp(getpid(), p, 0, 99, 99));
    SHOW(kcmp(getpid(), p, 77, 0, 0));
    SHOW(kcmp(getpid(), 0x3ffffff, 1, 0, 0));
    MUST(write(sync_fd[1], "x", 1) == 1);
    wait_show("child", p);
    SHOW(unshare(0));
    SHOW(unshare(CLONE_FILES | CLONE_FS));
    SHOW(unshare(CLONE_VM));
    SHOW(unshare(1));
    return done();
}
