// modes: static dynamic musl
// needs: threads
// execve from a second thread: the others end, the pid stays, the new program has one thread.
#include "../common.h"
#include <pthread.h>

static char **args;
static void *runner(void *p) {
    (void)p;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    execl("/proc/self/exe", args[0], pid, NULL);
    puts("exec failed");
    return NULL;
}
static void *idle(void *p) {
    (void)p;
    for (;;)
        pause();
}

int main(int argc, char **argv) {
    if (argc > 1) {
        puts("in the new program");
        CHECK(atoi(argv[1]) == getpid());
        CHECK(syscall(SYS_gettid) == getpid());
        char b[8192] = {0};
        int fd = open("/proc/self/status", O_RDONLY);
        MUST(read(fd, b, sizeof b - 1) > 0);
        char *t = strstr(b, "\nThreads:");
        CHECK(t && atoi(t + 9) == 1);
        return done();
    }
    args = argv;
    pthread_t t;
    pthread_create(&t, NULL, idle, NULL);
    pthread_create(&t, NULL, idle, NULL);
    pthread_create(&t, NULL, runner, NULL);
    idle(NULL);
}
