// modes: static dynamic musl
// needs: threads
// pthread_exit in main leaves the others running; the process ends with 0 after the last one.
#include "../common.h"
#include <pthread.h>

static pthread_t first;
static void *outlive(void *p) {
    (void)p;
    SHOWE(pthread_join(first, NULL));
    puts("main is gone");
    CHECK(getpid() == syscall(SYS_getpid));
    CHECK(syscall(SYS_gettid) != getpid());
    char b[64];
    int fd = open("/proc/self/comm", O_RDONLY);
    CHECK(read(fd, b, sizeof b) > 0);
    return NULL;
}
static void bye(void) { puts("atexit"); }

int main(void) {
    atexit(bye);
    first = pthread_self();
    pthread_t t;
    pthread_create(&t, NULL, outlive, NULL);
    pthread_exit(NULL);
}
