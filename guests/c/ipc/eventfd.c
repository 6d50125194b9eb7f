// modes: static dynamic musl
// needs: threads
// eventfd: counting, semaphore mode, overflow, nonblocking and blocking, in poll, errors.
#include "../common.h"
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

static int fd;
static void *adder(void *p) {
    (void)p;
    sleep_ms(3);
    uint64_t v = 5;
    MUST(write(fd, &v, 8) == 8);
    return NULL;
}
static void *drainer(void *p) {
    (void)p;
    sleep_ms(3);
    uint64_t v;
    MUST(read(fd, &v, 8) == 8);
    return NULL;
}

int main(void) {
    uint64_t v = 7;
    fd = eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC);
    SHOW(read(fd, &v, 8));
    SHOW(v);
    SHOW(read(fd, &v, 8));
    v = 2;
    SHOW(write(fd, &v, 8));
    SHOW(write(fd, &v, 8));
    SHOW(read(fd, &v, 8));
    SHOW(v);
    v = UINT64_MAX;
    SHOW(write(fd, &v, 8));
    v = UINT64_MAX - 1;
    SHOW(write(fd, &v, 8));
    v = 1;
    SHOW(write(fd, &v, 8));
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};
    SHOW(poll(&p, 1, 0));
    SHOW(p.revents);
    SHOW(read(fd, &v, 8));
    SHOW(poll(&p, 1, 0));
    SHOW(p.revents);
    v = 0;
    SHOW(write(fd, &v, 8));
    SHOW(poll(&p, 1, 0));
    SHOW(p.revents);
    SHOW(read(fd, &v, 4));
    SHOW(write(fd, &v, 4));
    SHOW(lseek(fd, 0, SEEK_SET));
    int sem = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
    for (int i = 0; i < 4; i++) {
        SHOW(read(sem, &v, 8));
        SHOW(v);
    }
    fd = eventfd(0, 0);
    pthread_t t;
    pthread_create(&t, NULL, adder, NULL);
    SHOW(read(fd, &v, 8)); /* waits */
    SHOW(v);
    pthread_join(t, NULL);
    v = UINT64_MAX - 1;
    SHOW(write(fd, &v, 8));
    pthread_create(&t, NULL, drainer, NULL);
    v = 1;
    SHOW(write(fd, &v, 8)); /* waits for room */
    pthread_join(t, NULL);
    SHOW(eventfd(0, 0x100));
    return done();
}
