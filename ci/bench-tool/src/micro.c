// Single operations, counted: micro PART MS prints how many were done and in how many ns (jobs.rs). The same binary runs in
// every mode. What two sides do together (a hand-off there and back) is one operation.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MUST(x) do { if (!(x)) { fprintf(stderr, "%s: %s\n", #x, strerror(errno)); exit(1); } } while (0)

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t span;

// Does `work` until the time is over, looking at the clock after each `batch`.
#define COUNT(batch, work) do { \
        uint64_t n = 0, from = now(), to; \
        do { for (int i_ = 0; i_ < (batch); i_++) { work; } n += (batch); } while ((to = now()) - from < span); \
        printf("%llu %llu\n", (unsigned long long)n, (unsigned long long)(to - from)); \
    } while (0)

static atomic_int turn;
static atomic_int over;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void *yields(void *x) {
    while (!over) sched_yield();
    return x;
}

static void cond_turn(int mine) {
    pthread_mutex_lock(&lock);
    while (turn != mine && !over) pthread_cond_wait(&changed, &lock);
    turn = !mine;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void *cond_other(void *x) {
    while (!over) cond_turn(1);
    return x;
}

static void futex_turn(int mine) {
    while (turn != mine && !over) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !mine, NULL, NULL, 0);
    turn = !mine;
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *futex_other(void *x) {
    while (!over) futex_turn(1);
    return x;
}

static int near_in, near_out, far_in, far_out;

static void *echo(void *x) {
    char c;
    while (read(far_in, &c, 1) == 1) MUST(write(far_out, &c, 1) == 1);
    return x;
}

static void ping(void) {
    char c = 'x';
    MUST(write(near_out, &c, 1) == 1);
    MUST(read(near_in, &c, 1) == 1);
}

static void make_pipes(void) {
    int there[2], back[2];
    MUST(pipe(there) == 0 && pipe(back) == 0);
    far_in = there[0], near_out = there[1], near_in = back[0], far_out = back[1];
}

static pid_t echo_process(int sockets) {
    if (sockets) {
        int s[2];
        MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
        near_in = near_out = s[0], far_in = far_out = s[1];
    } else {
        make_pipes();
    }
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        close(near_out);
        if (!sockets) close(near_in);
        echo(NULL);
        _exit(0);
    }
    return child;
}

static void reap(pid_t child) {
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
}

static void fork_once(void) {
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) _exit(0);
    reap(child);
}

static void two_threads(void *(*other)(void *), void (*mine)(int)) {
    pthread_t t;
    MUST(pthread_create(&t, NULL, other, NULL) == 0);
    COUNT(16, mine(0));
    over = 1;
    pthread_mutex_lock(&lock);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    turn = 1;
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 2, NULL, NULL, 0);
    pthread_join(t, NULL);
}

int main(int argc, char **argv) {
    MUST(argc == 3);
    const char *p = argv[1];
    span = strtoull(argv[2], NULL, 10) * 1000000ull;
    pthread_t t;
    if (!strcmp(p, "getppid")) {
        COUNT(1000, syscall(SYS_getppid));
    } else if (!strcmp(p, "clock-gettime")) {
        struct timespec ts;
        COUNT(1000, clock_gettime(CLOCK_REALTIME, &ts));
    } else if (!strcmp(p, "yield")) {
        MUST(pthread_create(&t, NULL, yields, NULL) == 0);
        COUNT(100, sched_yield());
        over = 1;
        pthread_join(t, NULL);
    } else if (!strcmp(p, "condvar")) {
        two_threads(cond_other, cond_turn);
    } else if (!strcmp(p, "futex")) {
        two_threads(futex_other, futex_turn);
    } else if (!strcmp(p, "pipe-threads")) {
        make_pipes();
        MUST(pthread_create(&t, NULL, echo, NULL) == 0);
        COUNT(16, ping());
        close(near_out);
        pthread_join(t, NULL);
    } else if (!strcmp(p, "pipe-processes") || !strcmp(p, "unix-processes")) {
        pid_t child = echo_process(p[0] == 'u');
        close(far_in);
        if (p[0] != 'u') close(far_out);
        COUNT(16, ping());
        close(near_out);
        reap(child);
    } else if (!strcmp(p, "epoll")) {
        int ep = epoll_create1(0), fd = eventfd(0, 0);
        struct epoll_event e = {.events = EPOLLIN};
        MUST(ep >= 0 && fd >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == 0);
        uint64_t one = 1;
        COUNT(64, {
            MUST(write(fd, &one, 8) == 8);
            MUST(epoll_wait(ep, &e, 1, -1) == 1);
            MUST(read(fd, &one, 8) == 8);
        });
    } else if (!strcmp(p, "page-fault")) {
        const size_t size = 4 << 20;
        char *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MUST(m != MAP_FAILED && madvise(m, size, MADV_NOHUGEPAGE) == 0);
        size_t at = size;
        COUNT(64, {
            if (at == size) { MUST(madvise(m, size, MADV_DONTNEED) == 0); at = 0; }
            m[at] = 1;
            at += 4096;
        });
    } else if (!strcmp(p, "mmap")) {
        COUNT(16, {
            void *m = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            MUST(m != MAP_FAILED && munmap(m, 65536) == 0);
        });
    } else if (!strcmp(p, "semop")) {
        int id = semget(IPC_PRIVATE, 1, 0600);
        MUST(id >= 0);
        struct sembuf up = {.sem_op = 1}, down = {.sem_op = -1};
        COUNT(64, { MUST(semop(id, &up, 1) == 0); MUST(semop(id, &down, 1) == 0); });
        semctl(id, 0, IPC_RMID);
    } else if (!strcmp(p, "fork")) {
        COUNT(1, fork_once());
    } else if (!strcmp(p, "fork-100mb")) {
        const size_t size = 100 << 20;
        char *m = malloc(size);
        MUST(m);
        for (size_t i = 0; i < size; i += 4096) m[i] = 1;
        COUNT(1, fork_once());
    } else if (!strcmp(p, "spawn-true")) {
        char *args[] = {"/bin/true", NULL};
        COUNT(1, {
            pid_t child;
            MUST(posix_spawn(&child, args[0], NULL, NULL, args, environ) == 0);
            reap(child);
        });
    } else {
        fprintf(stderr, "no part %s\n", p);
        return 2;
    }
    return 0;
}
