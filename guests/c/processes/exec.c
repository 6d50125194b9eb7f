// modes: static dynamic musl
// execve: arguments and environment arrive, close-on-exec, kept and reset attributes, failures leave everything.
#include "../common.h"

static void second(char **argv, char **envp) {
    printf("arguments:");
    for (int i = 1; argv[i]; i++)
        printf(" [%s]", argv[i]);
    printf("\nenvironment:");
    for (int i = 0; envp[i]; i++)
        if (strncmp(envp[i], "PID=", 4))
            printf(" [%s]", envp[i]);
    puts("");
    SHOW(fcntl(10, F_GETFD));
    SHOW(fcntl(11, F_GETFD));
    struct sigaction a;
    for (int s = SIGUSR1; s <= SIGUSR2; s += SIGUSR2 - SIGUSR1) {
        sigaction(s, NULL, &a);
        printf("%s %s\n", sig_name(s), a.sa_handler == SIG_DFL ? "default" : a.sa_handler == SIG_IGN ? "ignored" : "?");
    }
    sigset_t m, pend;
    sigprocmask(SIG_BLOCK, NULL, &m);
    sigpending(&pend);
    printf("TERM blocked %d pending %d\n", sigismember(&m, SIGTERM), sigismember(&pend, SIGTERM));
    stack_t st;
    sigaltstack(NULL, &st);
    SHOW(st.ss_flags);
    SHOW(umask(0));
    struct rlimit r;
    getrlimit(RLIMIT_CORE, &r);
    SHOW(r.rlim_cur);
    CHECK(getpid() == atoi(getenv("PID")));
    struct itimerval it;
    getitimer(ITIMER_REAL, &it);
    CHECK(it.it_value.tv_sec > 50);
    char cwd[4096];
    MUST(getcwd(cwd, sizeof cwd));
    puts(strrchr(cwd, '/'));
}
static void handler(int s) { (void)s; }

int main(int argc, char **argv, char **envp) {
    if (argc > 1) {
        second(argv, envp);
        return done();
    }
    put_file("text", "not a program");
    chmod("text", 0755);
    put_file("plain", "x");
    char *args[] = {"name", NULL}, *none[] = {NULL};
    SHOW(execve("none", args, none));
    SHOW(execve("plain", args, none));
    SHOW(execve("text", args, none));
    SHOW(execve(".", args, none));
    SHOW(execve("plain/x", args, none));
    SHOW(execve("", args, none));
    SHOW(syscall(SYS_execve, "/proc/self/exe", BAD, none));
    char *bad[] = {"x", BAD, NULL};
    SHOW(syscall(SYS_execve, "/proc/self/exe", bad, none));
    put_file("truncated", "\177ELF\2\1\1");
    chmod("truncated", 0755);
    SHOW(execve("truncated", args, none));
    MUST(mkdir("sub", 0755) == 0 && chdir("sub") == 0);
    no_core();
    umask(037);
    int fd = open("/dev/null", O_RDONLY);
    dup2(fd, 10);
    dup3(fd, 11, O_CLOEXEC);
    close(fd);
    signal(SIGUSR1, handler);
    signal(SIGUSR2, SIG_IGN);
    sigset_t m;
    sigemptyset(&m);
    sigaddset(&m, SIGTERM);
    sigprocmask(SIG_BLOCK, &m, NULL);
    raise(SIGTERM);
    static char alt[32768];
    stack_t st = {.ss_sp = alt, .ss_size = sizeof alt};
    sigaltstack(&st, NULL);
    alarm(100);
    char pid[32];
    snprintf(pid, sizeof pid, "PID=%d", getpid());
    char *env[] = {"EMPTY=", "A=b c", pid, NULL}, *full[] = {argv[0], "one", "", "three words here", NULL};
    execve("/proc/self/exe", full, env);
    return 99;
}
