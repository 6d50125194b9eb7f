// modes: static dynamic musl
// chmod, fchmod, fchmodat; set-id and sticky bits; the umask; what stat shows.
#include "../common.h"

static void mode(const char *path) {
    struct stat st;
    MUST(lstat(path, &st) == 0);
    printf("%s is %o\n", path, st.st_mode);
}

int main(void) {
    SHOW(umask(077));
    SHOW(umask(0777));
    SHOW(umask(02));
    int fd = open("f", O_CREAT | O_RDWR, 0666);
    mode("f");
    SHOW(chmod("f", 0));
    mode("f");
    SHOW(chmod("f", 07777));
    mode("f");
    SHOW(fchmod(fd, 0640));
    mode("f");
    SHOW(fchmodat(AT_FDCWD, "f", 0600, 0));
    mode("f");
    MUST(symlink("f", "l") == 0);
    SHOW(chmod("l", 0644));
    mode("f");
    mode("l");
    SHOW(chmod("none", 0644));
    SHOW(chmod("f/x", 0644));
    SHOW(fchmod(99, 0644));
    SHOW(syscall(SYS_chmod, BAD, 0644));
    SHOW(mkdir("d", 02775));
    mode("d");
    SHOW(chmod("d", 0100000 | 0711));
    mode("d");
    SHOW(chmod("f", 06755));
    SHOW(write(fd, "x", 1)); /* a privileged writer keeps the bits, others lose them: not shown */
    int path = open("f", O_PATH);
    SHOW(fchmod(path, 0644));
    return done();
}
