// modes: static dynamic
// needs: threads
// A process that is killed or crashes while it holds things: what the others, who wait for them, find. SEM_UNDO, a
// robust mutex, record locks and flock, pipes, sockets, shared memory, SIGCHLD, children it leaves.
#include "../common.h"
#include <poll.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>

union semun { int val; struct semid_ds *buf; unsigned short *array; };
static struct shared {
    pthread_mutex_t mutex;
    volatile int word;
} *shared;
static int sem, shm, lockfile, up[2], down[2], ready[2], sock[2];

static int op(int n, int by, int flags) {
    struct sembuf s = {(unsigned short)n, (short)by, (short)flags};
    return semop(sem, &s, 1);
}

/* Takes everything and tells its parent; then it ends in the way that `how` says. */
static void victim(int how) {
    close(up[0]), close(down[1]), close(sock[0]), close(ready[0]);
    MUST(op(0, -1, SEM_UNDO) == 0 && op(1, 5, SEM_UNDO) == 0 && op(1, -2, SEM_UNDO) == 0);
    MUST(pthread_mutex_lock(&shared->mutex) == 0);
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
    MUST(fcntl(lockfile, F_SETLK, &l) == 0);
    int own = open("locked", O_RDWR);
    MUST(own >= 0 && flock(own, LOCK_EX) == 0);
    char *at = shmat(shm, NULL, 0);
    MUST(at != (void *)-1);
    strcpy(at, "left here");
    MUST(write(up[1], "last words", 10) == 10);
    int armed[2];
    MUST(pipe(armed) == 0);
    pid_t orphan = fork();
    if (orphan == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        /* It shares its parent's descriptors; they must not keep the pipes open. */
        close(up[1]), close(down[0]), close(sock[1]), close(own);
        shmdt(at);
        MUST(write(armed[1], "o", 1) == 1);
        for (;;)
            pause();
    }
    char c;
    MUST(read(armed[0], &c, 1) == 1 && write(ready[1], "v", 1) == 1);
    if (how == 1)
        *(volatile int *)BAD = 1;
    if (how == 2)
        abort();
    if (how == 3)
        while (shared->word != 99) /* computes when it is killed */
            ;
    (void)!read(down[0], &c, 1);
    _exit(77);
}

static void *semaphore_waiter(void *out) {
    *(int *)out = op(0, -1, 0);
    return NULL;
}
static void *mutex_waiter(void *out) {
    *(int *)out = pthread_mutex_lock(&shared->mutex);
    if (*(int *)out == EOWNERDEAD)
        pthread_mutex_consistent(&shared->mutex);
    pthread_mutex_unlock(&shared->mutex);
    return NULL;
}
static void *lock_waiter(void *out) {
    int fd = open("locked", O_RDWR);
    *(int *)out = flock(fd, LOCK_EX);
    close(fd);
    return NULL;
}

static void round_of(int how, const char *name) {
    printf("-- %s\n", name);
    MUST(semctl(sem, 0, SETVAL, (union semun){.val = 1}) == 0 && semctl(sem, 1, SETVAL, (union semun){.val = 0}) == 0);
    MUST(pipe(up) == 0 && pipe(down) == 0 && pipe(ready) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sock) == 0);
    shm = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    MUST(shm >= 0);
    pid_t p = fork();
    if (p == 0)
        victim(how);
    close(up[1]), close(down[0]), close(sock[1]), close(ready[1]);
    char got[16] = {0};
    MUST(read(ready[0], got, 1) == 1);
    pthread_t t[3];
    int result[3] = {-2, -2, -2};
    if (how == 0 || how == 3) {
        /* Three threads wait for what it holds before it is killed. */
        SHOW(semctl(sem, 0, GETVAL));
        SHOW(semctl(sem, 1, GETVAL));
        SHOWE(pthread_mutex_trylock(&shared->mutex));
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
        SHOW(fcntl(lockfile, F_SETLK, &l));
        struct shmid_ds d;
        SHOW(shmctl(shm, IPC_STAT, &d));
        SHOW(d.shm_nattch);
        pthread_create(&t[0], NULL, semaphore_waiter, &result[0]);
        pthread_create(&t[1], NULL, mutex_waiter, &result[1]);
        pthread_create(&t[2], NULL, lock_waiter, &result[2]);
        while (semctl(sem, 0, GETNCNT) != 1)
            sleep_ms(1);
        sleep_ms(10);
        MUST(kill(p, SIGKILL) == 0);
        for (int i = 0; i < 3; i++)
            pthread_join(t[i], NULL);
        printf("semaphore %d, mutex %s, flock %d\n", result[0], err_name(result[1]), result[2]);
    }
    siginfo_t info = {0};
    MUST(waitid(P_PID, (id_t)p, &info, WEXITED) == 0);
    printf("%s by %s, signal %s\n", info.si_code == CLD_KILLED ? "killed" : info.si_code == CLD_DUMPED ? "dumped" : "?",
           sig_name(info.si_status), sig_name(info.si_signo));
    /* Its child lost its parent and got the signal it asked for; then nobody writes to `ready`. */
    SHOW(read(ready[0], got, 1));
    SHOW(semctl(sem, 0, GETVAL));
    SHOW(semctl(sem, 1, GETVAL));
    int r = pthread_mutex_lock(&shared->mutex);
    printf("mutex: %s\n", err_name(r));
    if (r == EOWNERDEAD)
        SHOWE(pthread_mutex_consistent(&shared->mutex));
    SHOWE(pthread_mutex_unlock(&shared->mutex));
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
    SHOW(fcntl(lockfile, F_SETLK, &l));
    l.l_type = F_UNLCK;
    SHOW(fcntl(lockfile, F_SETLK, &l));
    int own = open("locked", O_RDWR);
    SHOW(flock(own, LOCK_EX | LOCK_NB));
    close(own);
    char text[32] = {0};
    SHOW(read(up[0], text, sizeof text));
    printf("%s\n", text);
    SHOW(read(up[0], text, sizeof text));
    SHOW(write(down[1], "x", 1));
    struct pollfd f = {sock[0], POLLIN | POLLOUT, 0};
    SHOW(poll(&f, 1, 0));
    printf("socket %s\n", f.revents & POLLHUP ? "hung up" : "is open");
    SHOW(send(sock[0], "x", 1, MSG_NOSIGNAL));
    SHOW(recv(sock[0], text, 1, 0));
    struct shmid_ds d;
    SHOW(shmctl(shm, IPC_STAT, &d));
    SHOW(d.shm_nattch);
    char *at = shmat(shm, NULL, SHM_RDONLY);
    printf("%s\n", at);
    shmdt(at);
    SHOW(shmctl(shm, IPC_RMID, NULL));
    close(up[0]), close(down[1]), close(sock[0]), close(ready[0]);
}

int main(void) {
    no_core();
    signal(SIGPIPE, SIG_IGN);
    put_file("locked", "0123456789");
    lockfile = open("locked", O_RDWR);
    sem = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(lockfile >= 0 && sem >= 0 && shared != MAP_FAILED);
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    MUST(pthread_mutex_init(&shared->mutex, &a) == 0);
    round_of(0, "killed while it waits");
    round_of(1, "segmentation fault");
    round_of(2, "abort");
    round_of(3, "killed while it computes");
    SHOW(semctl(sem, 0, IPC_RMID));
    return done();
}
