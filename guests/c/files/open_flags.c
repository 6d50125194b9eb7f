// modes: static dynamic musl
// open: create, exclusive, truncate, append, directory, nofollow, access modes, and their errors.
#include "../common.h"

int main(void) {
    umask(022);
    SHOW(open("none", O_RDONLY));
    SHOW(open("", O_RDONLY));
    int fd;
    SHOW(fd = open("a", O_WRONLY | O_CREAT | O_EXCL, 0666));
    SHOW(open("a", O_WRONLY | O_CREAT | O_EXCL, 0666));
    SHOW(write(fd, "hello", 5));
    char c;
    SHOW(read(fd, &c, 1));
    SHOW(close(fd));
    SHOW(close(fd));
    show_file("a");
    SHOW(fd = open("a", O_RDONLY));
    SHOW(write(fd, "x", 1));
    close(fd);
    SHOW(fd = open("a", O_WRONLY | O_APPEND));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(write(fd, "+tail", 5));
    SHOW(lseek(fd, 0, SEEK_CUR));
    close(fd);
    show_file("a");
    SHOW(fd = open("a", O_RDWR | O_TRUNC));
    SHOW(lseek(fd, 0, SEEK_END));
    close(fd);
    SHOW(mkdir("d", 0755));
    SHOW(open("d", O_WRONLY));
    SHOW(open("d", O_RDWR));
    SHOW(open("d", O_WRONLY | O_CREAT, 0644));
    SHOW(open("d", O_RDONLY | O_CREAT, 0644));
    SHOW(open("a", O_RDONLY | O_DIRECTORY));
    SHOW(fd = open("d", O_RDONLY | O_DIRECTORY));
    SHOW(read(fd, &c, 1));
    close(fd);
    SHOW(symlink("a", "link"));
    SHOW(open("link", O_RDONLY | O_NOFOLLOW));
    SHOW(open("link", O_WRONLY | O_CREAT | O_EXCL, 0644));
    SHOW(symlink("made", "dangling"));
    SHOW(open("dangling", O_RDONLY));
    SHOW(fd = open("dangling", O_WRONLY | O_CREAT, 0644));
    close(fd);
    SHOW(access("made", F_OK));
    SHOW(open("a/b", O_RDONLY));
    SHOW(open("a/", O_RDONLY));
    SHOW(open("d/new/", O_WRONLY | O_CREAT, 0644));
    SHOW(syscall(SYS_open, BAD, O_RDONLY, 0));
    SHOW(syscall(SYS_creat, "c", 0600));
    struct stat st;
    SHOW(stat("c", &st));
    printf("%o\n", st.st_mode);
    SHOW(openat(AT_FDCWD, "a", O_RDONLY | O_CLOEXEC));
    SHOW(openat(99, "a", O_RDONLY));
    SHOW(openat(0, "a", O_RDONLY));
    char cwd[4096];
    MUST(getcwd(cwd, sizeof cwd));
    strcat(cwd, "/a");
    SHOW(openat(99, cwd, O_RDONLY));
    return done();
}
