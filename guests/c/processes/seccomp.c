// needs: threads
/* Secure computing: strict mode, filters in classic BPF with each action, threads, inheritance. */
#include "../common.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/utsname.h>

#define NR offsetof(struct seccomp_data, nr)
#define ARG0 offsetof(struct seccomp_data, args[0])
#define ONE(call, action)                                                                                                \
    {                                                                                                                    \
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NR), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),                         \
            BPF_STMT(BPF_RET | BPF_K, action), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),                             \
    }
static long seccomp(unsigned op, unsigned flags, void *args) { return syscall(SYS_seccomp, op, flags, args); }
static long install(struct sock_filter *f, unsigned n, unsigned flags) {
    struct sock_fprog p = {n, f};
    return seccomp(SECCOMP_SET_MODE_FILTER, flags, &p);
}
#define INSTALL(f) install(f, sizeof(f) / sizeof *(f), 0)

static void report(const char *what, pid_t pid) {
    int st;
    MUST(waitpid(pid, &st, 0) == pid);
    if (WIFSIGNALED(st))
        printf("%s: %s\n", what, sig_name(WTERMSIG(st)));
    else
        printf("%s: exit %d\n", what, WEXITSTATUS(st));
}
static void on_sys(int s, siginfo_t *i, void *uc) {
    (void)uc;
    printf("%s code %d errno %d call %d arch %x\n", sig_name(s), i->si_code, i->si_errno, i->si_syscall, i->si_arch);
}
static void *sleeper(void *arg) {
    int *fd = arg;
    char c;
    (void)!read(*fd, &c, 1);
    long r = syscall(SYS_getppid);
    return (void *)(r == -1 ? (long)errno : 0L);
}
static void *killed(void *arg) {
    syscall(SYS_getppid);
    return arg;
}

int main(void) {
    struct sock_filter ppid[] = ONE(SYS_getppid, SECCOMP_RET_ERRNO | EDOM);
    struct sock_filter ok[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_filter odd[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 66), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_filter noret[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
    struct sock_filter far[] = {BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 9, 0), BPF_STMT(BPF_RET | BPF_K, 0)};
    SHOW(prctl(PR_GET_SECCOMP));
    SHOW(prctl(PR_SET_SECCOMP, 3, 0));
    SHOW(seccomp(SECCOMP_SET_MODE_STRICT, 1, NULL));
    SHOW(seccomp(9, 0, NULL));
    SHOW(seccomp(SECCOMP_SET_MODE_FILTER, 0, NULL));
    SHOW(INSTALL(odd));
    SHOW(INSTALL(noret));
    SHOW(INSTALL(far));
    SHOW(install(ok, 0, 0));
    SHOW(install(ok, 5000, 0));
    SHOW(install(ok, 1, 1 << 20));
    unsigned action = SECCOMP_RET_TRAP;
    SHOW(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action));
    action = 0x12340000;
    SHOW(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action));
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));

    pid_t pid = fork();
    if (pid == 0) {
        MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
        (void)!write(1, "strict\n", 7);
        syscall(SYS_getpid);
        syscall(SYS_exit, 3);
    }
    report("strict", pid);
    pid = fork();
    if (pid == 0) {
        MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
        syscall(SYS_exit, 3);
    }
    report("strict exit", pid);

    pid = fork();
    if (pid == 0) {
        SHOW(INSTALL(ppid));
        SHOW(prctl(PR_GET_SECCOMP));
        SHOW(syscall(SYS_getppid));
        SHOW(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
        /* Arguments count too, and the more severe of two filters. */
        struct sock_filter fd7[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NR),      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close, 0, 3),
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG0),    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 77, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_filter log[] = ONE(SYS_getppid, SECCOMP_RET_LOG);
        SHOW(INSTALL(fd7));
        SHOW(INSTALL(log));
        SHOW(syscall(SYS_close, 77));
        SHOW(syscall(SYS_close, 78));
        SHOW(syscall(SYS_getppid));
        struct sock_filter big[] = ONE(SYS_getpgrp, SECCOMP_RET_ERRNO | 5000);
        MUST(INSTALL(big) == 0);
        long r = syscall(SYS_getpgrp);
        CHECK(r == -1 && errno == 4095);
        struct sock_filter trace[] = ONE(SYS_getsid, SECCOMP_RET_TRACE | 1);
        MUST(INSTALL(trace) == 0);
        SHOW(syscall(SYS_getsid, 0));
        /* Inherited by fork. */
        pid_t q = fork();
        if (q == 0)
            child_exit(syscall(SYS_getppid) == -1 && errno == EDOM ? 0 : 1);
        report("inherited", q);
        child_exit(0);
    }
    report("errno", pid);

    pid = fork();
    if (pid == 0) {
        struct sigaction sa = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO};
        sigaction(SIGSYS, &sa, NULL);
        struct sock_filter trap[] = ONE(SYS_getppid, SECCOMP_RET_TRAP | 17);
        MUST(INSTALL(trap) == 0);
        long r = syscall(SYS_getppid);
        printf("returned %s\n", r == SYS_getppid ? "the number" : "something else");
        signal(SIGSYS, SIG_IGN);
        syscall(SYS_getppid);
        child_exit(0);
    }
    report("trap", pid);
    pid = fork();
    if (pid == 0) {
        struct sigaction sa = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO};
        sigaction(SIGSYS, &sa, NULL);
        struct sock_filter kill[] = ONE(SYS_getppid, SECCOMP_RET_KILL_PROCESS);
        MUST(INSTALL(kill) == 0);
        syscall(SYS_getppid);
        child_exit(0);
    }
    report("kill process", pid);
    pid = fork();
    if (pid == 0) {
        struct sock_filter kill[] = ONE(SYS_getppid, SECCOMP_RET_KILL_THREAD);
        MUST(INSTALL(kill) == 0);
        pthread_t t;
        MUST(pthread_create(&t, NULL, killed, NULL) == 0);
        pthread_join(t, NULL);
        printf("the other thread lives\n");
        syscall(SYS_getppid);
        child_exit(0);
    }
    report("kill thread", pid);
    pid = fork();
    if (pid == 0) {
        int p[2];
        MUST(pipe(p) == 0);
        pthread_t t[2];
        for (int i = 0; i < 2; i++)
            MUST(pthread_create(&t[i], NULL, sleeper, &p[0]) == 0);
        SHOW(install(ppid, 4, SECCOMP_FILTER_FLAG_TSYNC));
        MUST(write(p[1], "ab", 2) == 2);
        for (int i = 0; i < 2; i++) {
            void *r;
            pthread_join(t[i], &r);
            printf("thread got %s\n", err_name((int)(long)r));
        }
        child_exit(0);
    }
    report("tsync", pid);
    /* And kept by execve. */
    pid = fork();
    if (pid == 0) {
        struct sock_filter un[] = ONE(SYS_getcwd, SECCOMP_RET_ERRNO | EDOM);
        MUST(INSTALL(un) == 0);
        execl("/bin/sh", "sh", "-c", "grep -E '^(Seccomp|Seccomp_filters|NoNewPrivs):' /proc/self/status", NULL);
        _exit(9);
    }
    report("exec", pid);
    return done();
}
