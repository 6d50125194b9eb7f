// modes: static dynamic musl
// The umask applies to files, directories, fifos, and is shared by threads but not with a child.
#include "../common.h"

static void made(const char *path) {
    struct stat st;
    MUST(stat(path, &st) == 0);
    printf("%s %o\n", path, st.st_mode);
}

int main(void) {
    umask(0);
    SHOW(umask(0137));
    close(open("f", O_CREAT | O_WRONLY, 0777));
    mkdir("d", 0777);
    mkfifo("p", 0666);
    SHOW(mknod("n", S_IFREG | 0666, 0));
    made("f");
    made("d");
    made("p");
    made("n");
    pid_t p = fork();
    if (p == 0) {
        SHOW(umask(0));
        child_exit(0);
    }
    wait_show("child", p);
    SHOW(umask(07777777));
    SHOW(umask(0));
    return done();
}
