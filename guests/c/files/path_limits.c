// modes: static dynamic musl
// Names of 255 and paths of 4095 bytes pass, one more is ENAMETOOLONG.
#include "../common.h"

int main(void) {
    char name[300], path[4200];
    memset(name, 'n', sizeof name);
    name[255] = 0;
    SHOW(open(name, O_CREAT | O_WRONLY, 0644));
    SHOW(access(name, F_OK));
    name[255] = 'n';
    name[256] = 0;
    SHOW(open(name, O_CREAT | O_WRONLY, 0644));
    SHOW(access(name, F_OK));
    SHOW(mkdir(name, 0755));
    SHOW(unlink(name));
    SHOW(symlink("x", name));
    for (int i = 0; i < 4096; i += 2)
        memcpy(path + i, "./", 2);
    put_file("f", "");
    path[4094] = 'f';
    path[4095] = 0;
    SHOW(access(path, F_OK));
    path[4095] = 'x';
    path[4096] = 0;
    SHOW(access(path, F_OK));
    SHOW(open(path, O_RDONLY));
    SHOW(symlink(path, "l"));
    path[4095] = 0;
    SHOW(symlink(path, "l"));
    SHOW(access("l", F_OK));
    /* A path may come to its end right before an unmapped page. */
    char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(munmap(m + 4096, 4096) == 0);
    memcpy(m + 4094, "f", 2);
    SHOW(access(m + 4094, F_OK));
    m[4095] = 'f';
    SHOW(access(m + 4094, F_OK));
    return done();
}
