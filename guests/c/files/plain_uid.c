// modes: static dynamic musl
// needs: root
// A plain uid meets EACCES and EPERM where root does not: search, read, write, sticky, chown, chmod.
#include "../common.h"

int main(void) {
    umask(0);
    MUST(chmod(".", 0777) == 0);
    put_file("secret", "s");
    MUST(chmod("secret", 0600) == 0);
    put_file("public", "p");
    MUST(mkdir("closed", 0700) == 0);
    put_file("closed/x", "x");
    MUST(mkdir("sticky", 01777) == 0);
    put_file("sticky/roots", "r");
    MUST(mkdir("listonly", 0744) == 0);
    put_file("listonly/x", "x");
    MUST(mkdir("searchonly", 0711) == 0);
    put_file("searchonly/x", "x");
    pid_t p = fork();
    if (p == 0) {
        MUST(setgid(12345) == 0 && setuid(12345) == 0);
        SHOW(open("secret", O_RDONLY));
        SHOW(open("public", O_RDONLY));
        SHOW(open("public", O_WRONLY));
        SHOW(open("closed/x", O_RDONLY));
        SHOW(open("closed", O_RDONLY));
        SHOW(mkdir("closed/new", 0755));
        SHOW(open("listonly", O_RDONLY));
        SHOW(open("listonly/x", O_RDONLY));
        SHOW(open("searchonly", O_RDONLY));
        SHOW(open("searchonly/x", O_RDONLY));
        SHOW(open("searchonly/new", O_CREAT | O_WRONLY, 0644));
        SHOW(unlink("sticky/roots"));
        SHOW(rename("sticky/roots", "sticky/mine"));
        SHOW(open("sticky/mine", O_CREAT | O_WRONLY, 0644));
        SHOW(chmod("sticky/mine", 04711));
        SHOW(chmod("public", 0777));
        SHOW(chown("public", 12345, -1));
        SHOW(chown("sticky/mine", 0, -1));
        SHOW(chown("sticky/mine", -1, 12345));
        SHOW(truncate("public", 0));
        SHOW(access("secret", R_OK));
        SHOW(access("secret", F_OK));
        SHOW(access("sticky/mine", W_OK | X_OK));
        SHOW(unlink("sticky/mine"));
        SHOW(utimensat(AT_FDCWD, "public", NULL, 0));
        SHOW(chdir("closed"));
        SHOW(chdir("searchonly"));
        SHOW(setuid(0));
        child_exit(0);
    }
    wait_show("plain uid", p);
    show_file("sticky/roots");
    return done();
}
