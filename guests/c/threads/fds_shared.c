// modes: static dynamic musl
// needs: threads
// Descriptors, cwd and umask belong to the process; a close in one thread is seen by all, its number is used again.
#include "../common.h"
#include <pthread.h>

static int fd;
static void *body(void *p) {
    (void)p;
    SHOW(close(fd));
    SHOW(mkdir("d", 0755));
    SHOW(chdir("d"));
    SHOW(umask(077));
    SHOW(fd = open("made", O_CREAT | O_RDWR, 0666));
    return NULL;
}

int main(void) {
    umask(022);
    fd = open("f", O_CREAT | O_RDWR, 0644);
    int old = fd;
    pthread_t t;
    pthread_create(&t, NULL, body, NULL);
    pthread_join(t, NULL);
    CHECK(fd == old);
    SHOW(write(fd, "x", 1));
    show_file("made");
    SHOW(umask(0));
    struct stat st;
    SHOW(stat("../d/made", &st));
    printf("%o\n", st.st_mode);
    return done();
}
