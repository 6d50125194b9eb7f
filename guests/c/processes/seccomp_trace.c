/* SECCOMP_RET_TRACE: the call that the tracer puts in the place of the old one is judged again. */
#include "../common.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#define NR offsetof(struct seccomp_data, nr)
static pid_t child(void) {
    pid_t pid = fork();
    if (pid)
        return pid;
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NR),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 7),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 8),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog p = {sizeof f / sizeof *f, f};
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    raise(SIGSTOP);
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p) == 0);
    long r = syscall(SYS_getppid);
    printf("left alone: %s\n", r == getpid() ? "?" : r > 0 ? "the parent" : err_name(errno));
    r = syscall(SYS_getppid);
    printf("made getpgrp: %s\n", r == -1 ? err_name(errno) : "a value");
    r = syscall(SYS_getppid);
    printf("made getpid: %s\n", r == getpid() ? "the pid" : "something else");
    r = syscall(SYS_getppid, 0);
    printf("made getsid: %s\n", r == -1 ? err_name(errno) : "a value");
    r = syscall(SYS_getppid);
    printf("made -1: %ld\n", r);
    r = syscall(SYS_getsid, 0);
    printf("getsid made getpgrp: %s\n", r == -1 ? err_name(errno) : "a value");
    child_exit(0);
}

int main(void) {
    pid_t pid = child();
    int st;
    MUST(waitpid(pid, &st, 0) == pid && WIFSTOPPED(st));
    MUST(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESECCOMP) == 0);
    static const long calls[] = {SYS_getppid, SYS_getpgrp, SYS_getpid, SYS_getsid, -1, SYS_getpgrp};
    for (int i = 0;; i++) {
        MUST(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
        MUST(waitpid(pid, &st, 0) == pid);
        if (!WIFSTOPPED(st))
            break;
        MUST(i < 6);
        unsigned long msg = 0;
        MUST(ptrace(PTRACE_GETEVENTMSG, pid, 0, &msg) == 0);
        printf("stop %d: event %d, value %lu\n", i, st >> 16, msg);
        struct user_regs_struct r;
        MUST(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0);
        r.orig_rax = calls[i];
        if (calls[i] == -1)
            r.rax = 4711;
        MUST(ptrace(PTRACE_SETREGS, pid, 0, &r) == 0);
    }
    show_status("child", st);
    return done();
}
