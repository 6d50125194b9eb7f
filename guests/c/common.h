/* Shared by all guest programs: deterministic reporting of results and errno by name.
 *
 * Output must be equal on every run: no addresses, pids, times. A program that finds an invariant broken says FAIL and
 * leaves with code 1 (through `return done();`), natively too. */
#ifndef FTL_COMMON_H
#define FTL_COMMON_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

static UNUSED const char *err_name(int e) {
    switch (e) {
#define E(x) case x: return #x;
    E(EPERM) E(ENOENT) E(ESRCH) E(EINTR) E(EIO) E(ENXIO) E(E2BIG) E(ENOEXEC) E(EBADF) E(ECHILD) E(EAGAIN) E(ENOMEM)
    E(EACCES) E(EFAULT) E(ENOTBLK) E(EBUSY) E(EEXIST) E(EXDEV) E(ENODEV) E(ENOTDIR) E(EISDIR) E(EINVAL) E(ENFILE)
    E(EMFILE) E(ENOTTY) E(ETXTBSY) E(EFBIG) E(ENOSPC) E(ESPIPE) E(EROFS) E(EMLINK) E(EPIPE) E(EDOM) E(ERANGE)
    E(EDEADLK) E(ENAMETOOLONG) E(ENOLCK) E(ENOSYS) E(ENOTEMPTY) E(ELOOP) E(ENOMSG) E(EIDRM) E(ENODATA) E(ETIME)
    E(EPROTO) E(EBADMSG) E(EOVERFLOW) E(EILSEQ) E(ENOTSOCK) E(EDESTADDRREQ) E(EMSGSIZE) E(EPROTOTYPE)
    E(ENOPROTOOPT) E(EPROTONOSUPPORT) E(ESOCKTNOSUPPORT) E(EOPNOTSUPP) E(EPFNOSUPPORT) E(EAFNOSUPPORT) E(EADDRINUSE)
    E(EADDRNOTAVAIL) E(ENETDOWN) E(ENETUNREACH) E(ECONNABORTED) E(ECONNRESET) E(ENOBUFS) E(EISCONN) E(ENOTCONN)
    E(ESHUTDOWN) E(ETIMEDOUT) E(ECONNREFUSED) E(EHOSTDOWN) E(EHOSTUNREACH) E(EALREADY) E(EINPROGRESS) E(ESTALE)
    E(EDQUOT) E(ECANCELED) E(EOWNERDEAD) E(ENOTRECOVERABLE)
#undef E
    case 0: return "0";
    }
    static char other[24];
    snprintf(other, sizeof other, "errno %d", e);
    return other;
}

static UNUSED const char *sig_name(int s) {
    switch (s) {
#define S(x) case x: return #x;
    S(SIGHUP) S(SIGINT) S(SIGQUIT) S(SIGILL) S(SIGTRAP) S(SIGABRT) S(SIGBUS) S(SIGFPE) S(SIGKILL) S(SIGUSR1)
    S(SIGSEGV) S(SIGUSR2) S(SIGPIPE) S(SIGALRM) S(SIGTERM) S(SIGCHLD) S(SIGCONT) S(SIGSTOP) S(SIGTSTP) S(SIGTTIN)
    S(SIGTTOU) S(SIGURG) S(SIGXCPU) S(SIGXFSZ) S(SIGVTALRM) S(SIGPROF) S(SIGWINCH) S(SIGIO) S(SIGPWR) S(SIGSYS)
#undef S
    }
    static char other[24];
    snprintf(other, sizeof other, s >= 34 ? "SIGRT%d" : "signal %d", s >= 34 ? s - 34 : s);
    return other;
}

/* Every line leaves at once, so nothing is lost in a crash and fork copies no buffered text. */
__attribute__((constructor)) static UNUSED void common_init(void) { setvbuf(stdout, NULL, _IOLBF, 0); }

static UNUSED int common_failed;

static UNUSED long show_(const char *what, long value, bool number) {
    int e = errno;
    if (value == -1)
        printf("%s: %s\n", what, err_name(e));
    else if (number)
        printf("%s = %ld\n", what, value);
    else
        printf("%s: ok\n", what);
    errno = e;
    return value;
}

static UNUSED bool check_(const char *what, bool good, int line) {
    int e = errno;
    if (good)
        printf("ok %s\n", what);
    else {
        printf("FAIL line %d: %s (%s)\n", line, what, err_name(e));
        common_failed = 1;
    }
    errno = e;
    return good;
}

static UNUSED void must_(const char *what, bool good, int line) {
    if (good)
        return;
    printf("FAIL line %d: must %s (%s)\n", line, what, err_name(errno));
    fflush(stdout);
    _exit(1);
}

/* SHOW prints the call's text and its value or errno; SHOWN only that it succeeded (for values that vary). */
#define SHOW(call) (errno = 0, show_(#call, (long)(call), true))
#define SHOWN(call) (errno = 0, show_(#call, (long)(call), false))
/* For pthread_ and posix_ functions, which return the error. */
#define SHOWE(call) printf("%s: %s\n", #call, err_name(call))
/* CHECK prints ok or FAIL; MUST is silent when it holds and ends the program when not. */
#define CHECK(cond) check_(#cond, (cond), __LINE__)
#define MUST(cond) must_(#cond, (cond), __LINE__)

static UNUSED int done(void) {
    fflush(stdout);
    return common_failed;
}

/* Ends a forked child: no atexit handlers, no second flush of what the parent buffered. */
static UNUSED __attribute__((noreturn)) void child_exit(int code) {
    fflush(stdout);
    _exit(code ? code : common_failed);
}

static UNUSED void show_status(const char *who, int st) {
    if (WIFEXITED(st))
        printf("%s: exit %d\n", who, WEXITSTATUS(st));
    else if (WIFSIGNALED(st))
        printf("%s: killed by %s\n", who, sig_name(WTERMSIG(st)));
    else if (WIFSTOPPED(st))
        printf("%s: stopped by %s\n", who, sig_name(WSTOPSIG(st)));
    else if (WIFCONTINUED(st))
        printf("%s: continued\n", who);
    else
        printf("%s: status %x\n", who, st);
}

static UNUSED void wait_show(const char *who, pid_t pid) {
    int st = 0;
    MUST(waitpid(pid, &st, 0) == pid);
    show_status(who, st);
}

static UNUSED void no_core(void) {
    struct rlimit r = {0, 0};
    setrlimit(RLIMIT_CORE, &r);
}

static UNUSED void put_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    MUST(fd >= 0);
    MUST(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static UNUSED void show_file(const char *path) {
    char buf[4096];
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        printf("%s: %s\n", path, err_name(errno));
        return;
    }
    ssize_t n = read(fd, buf, sizeof buf - 1);
    close(fd);
    buf[n < 0 ? 0 : n] = 0;
    printf("%s has %zd bytes: %s\n", path, n, buf);
}

static UNUSED int64_t now_ns(clockid_t c) {
    struct timespec t;
    MUST(clock_gettime(c, &t) == 0);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static UNUSED void sleep_ms(int ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&t, &t) && errno == EINTR)
        ;
}

/* The letter of a thread's state in /proc, 0 if it is not there. */
static UNUSED char state_of(pid_t pid, pid_t tid) {
    char path[64], text[512], *end;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n < 0 ? 0 : n] = 0;
    end = strrchr(text, ')'); /* the program's name may hold anything */
    return end ? end[2] : 0;
}

/* Waits until a thread that has said so (`about`, set just before the call that waits) is asleep, or stopped, in it. */
static UNUSED void await_state(volatile int *about, pid_t pid, pid_t tid, const char *letters) {
    char s = 0;
    while (!*about || !(s = state_of(pid, tid)) || !strchr(letters, s)) {
        MUST(!*about || s != 'Z'); /* it never comes */
        sleep_ms(1);
    }
}

/* An address that is never mapped, for EFAULT. */
#define BAD ((void *)8)
#endif
