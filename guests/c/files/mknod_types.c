// modes: static dynamic musl
// mknod of a file, a fifo, a socket; what open says of each; unlink of each.
#include "../common.h"

int main(void) {
    umask(022);
    struct stat st;
    SHOW(mknod("file", S_IFREG | 0644, 0));
    SHOW(mknod("zero", 0600, 0));
    SHOW(mknod("fifo", S_IFIFO | 0644, 0));
    SHOW(mknod("sock", S_IFSOCK | 0644, 0));
    SHOW(mknod("dir", S_IFDIR | 0755, 0));
    SHOW(mknod("link", S_IFLNK | 0755, 0));
    SHOW(mknod("file", S_IFREG | 0644, 0));
    SHOW(mknod("none/x", S_IFREG | 0644, 0));
    const char *names[] = {"file", "zero", "fifo", "sock"};
    for (int i = 0; i < 4; i++) {
        MUST(lstat(names[i], &st) == 0);
        printf("%s %o\n", names[i], st.st_mode);
    }
    SHOW(open("sock", O_RDWR));
    SHOW(mknodat(99, "x", S_IFREG, 0));
    for (int i = 0; i < 4; i++)
        SHOW(unlink(names[i]));
    return done();
}
