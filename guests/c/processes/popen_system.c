// modes: static dynamic musl
// popen, system and pipelines through the shell.
#include "../common.h"

int main(void) {
    char line[256];
    FILE *f = popen("echo one; echo two; exit 7", "r");
    while (fgets(line, sizeof line, f))
        printf("got %s", line);
    show_status("pclose", pclose(f));
    f = popen("tr a-z A-Z > out", "w");
    fputs("shouted\n", f);
    show_status("pclose", pclose(f));
    show_file("out");
    show_status("system", system("exit 3"));
    show_status("system", system("kill -TERM $$"));
    show_status("system", system("no-such-command 2>/dev/null"));
    SHOW(system(NULL) != 0);
    show_status("pipeline", system("seq 1 1000 | sort -rn | head -3 | tail -1"));
    struct sigaction a;
    sigaction(SIGINT, NULL, &a);
    CHECK(a.sa_handler == SIG_DFL);
    f = popen("cat", "r+");
    CHECK(f == NULL || pclose(f) >= 0);
    return done();
}
