// modes: static dynamic musl
// Scripts: interpreter and one argument, nested to the limit, missing interpreters, a line without a newline.
#include "../common.h"

static void run(const char *path) {
    pid_t p = fork();
    if (p == 0) {
        execl(path, "zeroth", "x", "y", NULL);
        printf("%s: %s\n", path, err_name(errno));
        fflush(stdout);
        _exit(99);
    }
    wait_show(path, p);
}
static void script(const char *path, const char *text) {
    put_file(path, text);
    MUST(chmod(path, 0755) == 0);
}

int main(void) {
    script("plain", "#!/bin/sh\necho plain $0 $1 $2 $#\n");
    script("args", "#!/bin/echo -n two words \nignored\n");
    script("spaces", "#!  \t /bin/echo\n");
    script("missing", "#!/no/such/interpreter\n");
    script("empty", "#!\n");
    script("nothing", "");
    script("text", "echo not a script for the kernel\n");
    script("nonewline", "#!/bin/echo");
    script("n1", "#!./plain\n");
    script("n2", "#!./n1 extra\n");
    script("loop", "#!./loop\n");
    script("directory", "#!/tmp\n");
    script("noexec", "#!./data\n");
    put_file("data", "x");
    char long_line[400] = "#!/bin/echo ";
    memset(long_line + 12, 'a', 300);
    strcpy(long_line + 312, "\n");
    script("long", long_line);
    const char *all[] = {"./plain", "./args", "./spaces", "./missing", "./empty", "./nothing", "./text", "./nonewline",
                         "./n1", "./n2", "./loop", "./directory", "./noexec", "./long"};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        run(all[i]);
    return done();
}
