// modes: static dynamic musl
// System V shared memory: keys, attach, fork, detach, counts, removal while attached, errors.
#include "../common.h"
#include <sys/ipc.h>
#include <sys/shm.h>

int main(void) {
    key_t key = 0x46540000 + (getpid() & 0xffff);
    SHOW(shmget(key, 4096, 0600));
    int id = shmget(key, 10000, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(id >= 0);
    SHOW(shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0600));
    CHECK(shmget(key, 100, 0) == id);
    SHOW(shmget(key, 20000, 0));
    SHOW(shmget(IPC_PRIVATE, 0, 0600));
    int *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);
    CHECK(a != (void *)-1 && b != (void *)-1 && a != b);
    a[0] = 42;
    SHOW(b[0]);
    struct shmid_ds ds;
    SHOW(shmctl(id, IPC_STAT, &ds));
    printf("size %zu attached %lu mode %o mine %d\n", ds.shm_segsz, (unsigned long)ds.shm_nattch, ds.shm_perm.mode, ds.shm_cpid == getpid());
    pid_t p = fork();
    if (p == 0) {
        shmctl(id, IPC_STAT, &ds);
        SHOW(ds.shm_nattch);
        a[1] = 43;
        child_exit(0);
    }
    wait_show("child", p);
    SHOW(a[1]);
    SHOW(shmdt(b));
    SHOW(shmdt(b));
    SHOW(shmdt((char *)a + 1));
    shmctl(id, IPC_STAT, &ds);
    SHOW(ds.shm_nattch);
    SHOW(shmctl(id, IPC_RMID, NULL));
    SHOW(a[0]);
    SHOW(shmget(key, 100, 0));
    shmctl(id, IPC_STAT, &ds);
    SHOW(ds.shm_perm.mode & 01000);
    SHOW(shmdt(a));
    SHOW(shmctl(id, IPC_STAT, &ds));
    CHECK(shmat(id, NULL, 0) == (void *)-1 && (errno == EINVAL || errno == EIDRM));
    return done();
}
