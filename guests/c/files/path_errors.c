// modes: static dynamic musl
// The same four bad paths through every call that takes one.
#include "../common.h"

static void all(const char *p) {
    struct stat st;
    char b[16];
#define R(e) ((e) == -1 ? err_name(errno) : "0")
    printf("%-8.8s open %s creat %s stat %s lstat %s access %s", p, R(open(p, O_RDONLY)), R(open(p, O_CREAT | O_EXCL | O_WRONLY, 0600)),
           R(stat(p, &st)), R(lstat(p, &st)), R(access(p, F_OK)));
    printf(" mkdir %s rmdir %s unlink %s", R(mkdir(p, 0700)), R(rmdir(p)), R(unlink(p)));
    printf(" chmod %s chown %s truncate %s chdir %s", R(chmod(p, 0600)), R(chown(p, -1, -1)), R(truncate(p, 0)), R(chdir(p)));
    printf(" readlink %s rename %s link %s to %s symlink %s", R(readlink(p, b, 16)), R(rename(p, "t")), R(link(p, "t")), R(link("f", p)), R(symlink("f", p)));
    printf(" mknod %s utimes %s exec %s\n", R(mknod(p, S_IFIFO | 0600, 0)), R(utimensat(AT_FDCWD, p, NULL, 0)), R(execl(p, p, NULL)));
}

int main(void) {
    put_file("f", "");
    MUST(symlink("loop", "loop") == 0);
    static char longname[400], longpath[5000];
    memset(longname, 'n', 300);
    for (int i = 0; i < 4998; i += 2)
        memcpy(longpath + i, "./", 2);
    all("none/x");
    all("f/x");
    all("loop/x");
    all(longname);
    all(longpath);
    all("");
    all("loop");
    return done();
}
