// modes: static dynamic musl
// needs: threads
// Thread ids: distinct, listed under /proc/self/task, gone after the end; names by prctl and by file.
#include "../common.h"
#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/prctl.h>

static sem_t ready, leave;
static pid_t tids[3];
static void *body(void *p) {
    long i = (long)p;
    char name[32], back[32] = {0};
    snprintf(name, sizeof name, "worker-%ld-and-more", i);
    MUST(prctl(PR_SET_NAME, name) == 0 && prctl(PR_GET_NAME, back) == 0);
    MUST(strncmp(name, back, 15) == 0 && strlen(back) == 15);
    tids[i] = (pid_t)syscall(SYS_gettid);
    sem_post(&ready);
    sem_wait(&leave);
    return NULL;
}
static int tasks(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    MUST(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

int main(void) {
    pthread_t t[3];
    sem_init(&ready, 0, 0);
    sem_init(&leave, 0, 0);
    SHOW(tasks());
    for (long i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, body, (void *)i);
    for (int i = 0; i < 3; i++)
        sem_wait(&ready);
    CHECK(tids[0] != tids[1] && tids[1] != tids[2] && tids[0] != tids[2]);
    CHECK(tids[0] != getpid() && syscall(SYS_gettid) == getpid());
    SHOW(tasks());
    for (int i = 0; i < 3; i++) {
        char path[64], b[64] = {0};
        snprintf(path, sizeof path, "/proc/self/task/%d/comm", tids[i]);
        int fd = open(path, O_RDONLY);
        SHOW(read(fd, b, sizeof b));
        fputs(b, stdout);
        close(fd);
    }
    for (int i = 0; i < 3; i++)
        sem_post(&leave);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    while (tasks() != 1) /* join returns a little before the kernel is done */
        sched_yield();
    puts("all gone");
    SHOW(syscall(SYS_tgkill, getpid(), tids[0], 0));
    SHOW(prctl(PR_SET_NAME, "renamed"));
    show_file("/proc/self/comm");
    put_file("/proc/self/comm", "by file");
    char back[32] = {0};
    SHOW(prctl(PR_GET_NAME, back));
    puts(back);
    return done();
}
