// modes: static dynamic musl
// shm_open: a shared object by name, its errors, unlinking while mapped.
#include "../common.h"

int main(void) {
    char name[64];
    snprintf(name, sizeof name, "/ftl-shm-%d", getpid());
    CHECK(shm_open(name, O_RDWR, 0600) == -1 && errno == ENOENT);
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0);
    SHOW(fcntl(fd, F_GETFD));
    CHECK(shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600) == -1 && errno == EEXIST);
    struct stat st;
    MUST(fstat(fd, &st) == 0);
    printf("mode %o size %ld\n", st.st_mode, (long)st.st_size);
    SHOW(ftruncate(fd, 8192));
    int *a = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    a[0] = 1;
    pid_t p = fork();
    if (p == 0) {
        int other = shm_open(name, O_RDWR, 0);
        int *b = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
        CHECK(b != MAP_FAILED && b[0] == 1);
        b[1024] = 2;
        child_exit(0);
    }
    wait_show("child", p);
    SHOW(a[1024]);
    SHOW(shm_unlink(name));
    SHOW(shm_unlink(name));
    a[0] = 5;
    SHOW(a[0]);
    CHECK(shm_open("/a/b", O_RDWR | O_CREAT, 0600) == -1);
    return done();
}
