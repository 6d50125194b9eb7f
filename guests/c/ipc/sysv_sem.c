// modes: static dynamic musl
// System V semaphores: sets, operations as one, waiting, SEM_UNDO, timeouts, removal wakes waiters.
#include "../common.h"
#include <sys/ipc.h>
#include <sys/sem.h>

union semun { int val; struct semid_ds *buf; unsigned short *array; };
static int op(int id, int n, int by, int flags) {
    struct sembuf s = {(unsigned short)n, (short)by, (short)flags};
    return semop(id, &s, 1);
}

int main(void) {
    int id = semget(IPC_PRIVATE, 3, IPC_CREAT | 0600);
    CHECK(id >= 0);
    SHOW(semctl(id, 0, SETVAL, (union semun){.val = 2}));
    SHOW(semctl(id, 0, GETVAL));
    SHOW(op(id, 0, -2, 0));
    SHOW(op(id, 0, -1, IPC_NOWAIT));
    SHOW(op(id, 0, 0, 0));
    SHOW(op(id, 0, 1, 0));
    SHOW(op(id, 0, 0, IPC_NOWAIT));
    unsigned short all[3] = {1, 2, 3};
    SHOW(semctl(id, 0, SETALL, (union semun){.array = all}));
    struct sembuf two[2] = {{0, -1, 0}, {1, -5, IPC_NOWAIT}};
    SHOW(semop(id, two, 2));
    SHOW(semctl(id, 0, GETVAL)); /* all or nothing */
    pid_t p = fork();
    if (p == 0) {
        SHOW(op(id, 2, -1, SEM_UNDO));
        SHOW(op(id, 2, -1, SEM_UNDO));
        SHOW(semctl(id, 2, GETVAL));
        child_exit(0);
    }
    wait_show("child", p);
    SHOW(semctl(id, 2, GETVAL)); /* given back at its end */
    p = fork();
    if (p == 0) {
        int r = op(id, 1, -10, 0);
        printf("waiter: %s\n", r ? err_name(errno) : "got it");
        child_exit(0);
    }
    while (semctl(id, 1, GETNCNT) != 1)
        sleep_ms(1);
    MUST(op(id, 1, 8, 0) == 0);
    wait_show("waiter", p);
    SHOW(semctl(id, 1, GETVAL));
    struct timespec t = {0, 2000000};
    struct sembuf wait = {1, -1, 0};
    SHOW(syscall(SYS_semtimedop, id, &wait, 1L, &t));
    SHOW(op(id, 9, 1, 0));
    SHOW(op(id, 0, 32767, 0));
    p = fork();
    if (p == 0) {
        int r = op(id, 1, -10, 0);
        printf("waiter: %s\n", r ? err_name(errno) : "got it");
        child_exit(0);
    }
    while (semctl(id, 1, GETNCNT) != 1)
        sleep_ms(1);
    MUST(semctl(id, 0, IPC_RMID) == 0);
    wait_show("waiter", p);
    SHOW(op(id, 0, 1, 0));
    SHOW(semget(IPC_PRIVATE, 0, 0600));
    SHOW(semget(IPC_PRIVATE, 100000, 0600));
    return done();
}
