// modes: static dynamic musl
// needs: threads
// /proc/self/stat and status: ids, state, threads, masks, sizes; of a child, a zombie, a thread.
#include "../common.h"
#include <pthread.h>

static char b[16384];
static bool slurp(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, b, sizeof b - 1);
    close(fd);
    b[n > 0 ? n : 0] = 0;
    return n > 0;
}
static const char *field(const char *key) {
    static char v[256];
    char k[64];
    snprintf(k, sizeof k, "\n%s:", key);
    char *at = strncmp(b, k + 1, strlen(k) - 1) == 0 ? b - 1 : strstr(b, k);
    if (!at)
        return "(none)";
    at += strlen(k);
    at += strspn(at, " \t");
    snprintf(v, sizeof v, "%.*s", (int)strcspn(at, "\n"), at);
    return v;
}
static void *idle(void *p) {
    (void)p;
    for (;;)
        pause();
}
static void stat_line(pid_t pid, char *state, int *ppid, int *threads) {
    char path[64], comm[64];
    int p;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    MUST(slurp(path));
    MUST(sscanf(b, "%d (%63[^)]) %c %d", &p, comm, state, ppid) == 4 && p == pid);
    char *at = strrchr(b, ')');
    int n = 0;
    for (char *w = strtok(at, " "); w; w = strtok(NULL, " "))
        if (++n == 19)
            *threads = atoi(w);
    MUST(n >= 50);
}

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGUSR2, SIG_IGN);
    raise(SIGUSR1);
    pthread_t t;
    pthread_create(&t, NULL, idle, NULL);
    MUST(slurp("/proc/self/status"));
    CHECK(atoi(field("Pid")) == getpid());
    CHECK(atoi(field("Tgid")) == getpid());
    CHECK(atoi(field("PPid")) == getppid());
    CHECK((uid_t)atoi(field("Uid")) == getuid());
    CHECK((gid_t)atoi(field("Gid")) == getgid());
    printf("Threads %s\n", field("Threads"));
    printf("State %c\n", field("State")[0]);
    printf("SigBlk %s\n", field("SigBlk"));
    printf("ignored USR2 %d\n", (int)(strtoul(field("SigIgn"), NULL, 16) >> (SIGUSR2 - 1) & 1));
    printf("pending USR1 %d\n", (int)((strtoul(field("SigPnd"), NULL, 16) | strtoul(field("ShdPnd"), NULL, 16)) >> (SIGUSR1 - 1) & 1));
    CHECK(strstr(field("VmSize"), "kB") && atol(field("VmSize")) > 0 && atol(field("VmRSS")) > 0);
    CHECK(strcmp(field("Cpus_allowed_list"), "(none)") != 0);
    printf("NoNewPrivs %s Seccomp field %d\n", field("NoNewPrivs"), strcmp(field("Seccomp"), "(none)") != 0);
    char state;
    int ppid, threads;
    stat_line(getpid(), &state, &ppid, &threads);
    printf("%c threads %d\n", state, threads);
    CHECK(ppid == getppid());
    pid_t k = fork();
    if (k == 0)
        _exit(0);
    siginfo_t si;
    MUST(waitid(P_PID, k, &si, WEXITED | WNOWAIT) == 0);
    stat_line(k, &state, &ppid, &threads);
    printf("zombie %c\n", state);
    CHECK(ppid == getpid());
    waitpid(k, NULL, 0);
    k = fork();
    if (k == 0)
        idle(NULL);
    do {
        stat_line(k, &state, &ppid, &threads);
    } while (state != 'S');
    printf("sleeping child %c\n", state);
    kill(k, SIGSTOP);
    int st;
    MUST(waitpid(k, &st, WUNTRACED) == k);
    stat_line(k, &state, &ppid, &threads);
    printf("stopped child %c\n", state);
    kill(k, SIGKILL);
    waitpid(k, &st, 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", k);
    CHECK(!slurp(path) && errno == ENOENT);
    return done();
}
