// modes: static dynamic musl
// needs: threads
// What /proc has of a child that nobody has waited for, and of a first thread that has ended before the others.
#include "../common.h"
#include <dirent.h>
#include <pthread.h>

static int tasks(pid_t pid, pid_t other) {
    char path[64];
    int n = 0, found = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *d = opendir(path);
    if (!d)
        return -1;
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            n++, found += atoi(e->d_name) == pid || atoi(e->d_name) == other;
    closedir(d);
    return n * 10 + found;
}
static void *stays(void *p) {
    *(volatile pid_t *)p = (pid_t)syscall(SYS_gettid);
    pause();
    return NULL;
}

int main(void) {
    char path[64], text[256] = "";
    siginfo_t i;
    volatile pid_t *tid = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t p = fork();
    if (p == 0)
        _exit(9);
    MUST(waitid(P_PID, (id_t)p, &i, WEXITED | WNOWAIT) == 0);
    printf("%c\n", state_of(p, p));
    SHOW(tasks(p, 0));
    snprintf(path, sizeof path, "/proc/%d/task/%d/cwd", p, p);
    SHOW(readlink(path, text, sizeof text));
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", p, p + 1);
    SHOW(access(path, F_OK));
    wait_show("child", p);
    snprintf(path, sizeof path, "/proc/%d/task", p);
    SHOW(access(path, F_OK));

    fflush(stdout);
    p = fork();
    if (p == 0) {
        pthread_t t;
        pthread_create(&t, NULL, stays, (void *)tid);
        pthread_exit(NULL);
    }
    while (!*tid || state_of(p, *tid) != 'S' || state_of(p, p) != 'Z')
        sleep_ms(1);
    SHOW(tasks(p, *tid));
    SHOW(waitpid(p, NULL, WNOHANG));
    MUST(kill(p, SIGTERM) == 0);
    wait_show("process without its first thread", p);
    return done();
}
