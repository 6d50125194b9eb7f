// modes: static dynamic musl
// needs: root
// Root gives files away, and new files take the group of a set-gid directory.
#include "../common.h"

static void owner(const char *path) {
    struct stat st;
    MUST(lstat(path, &st) == 0);
    printf("%s belongs to %u:%u mode %o\n", path, st.st_uid, st.st_gid, st.st_mode);
}

int main(void) {
    umask(022);
    put_file("f", "");
    MUST(symlink("f", "l") == 0);
    SHOW(chown("f", 1234, 5678));
    owner("f");
    SHOW(chown("l", 77, -1));
    owner("f");
    SHOW(lchown("l", 88, 99));
    owner("l");
    owner("f");
    MUST(mkdir("d", 0755) == 0);
    SHOW(chown("d", 0, 4242));
    SHOW(chmod("d", 02755));
    put_file("d/f", "");
    owner("d/f");
    SHOW(mkdir("d/e", 0755));
    owner("d/e");
    MUST(chmod("f", 06755) == 0);
    SHOW(chown("f", 1, 1));
    owner("f");
    return done();
}
