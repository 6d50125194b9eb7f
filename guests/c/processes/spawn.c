// modes: static dynamic musl
// posix_spawn: file actions, attributes, PATH, and failures that are reported as its result.
#include "../common.h"
#include <spawn.h>

extern char **environ;

int main(void) {
    pid_t p;
    char *sh[] = {"sh", "-c", "echo from the shell; exit 4", NULL};
    MUST(posix_spawn(&p, "/bin/sh", NULL, NULL, sh, environ) == 0);
    wait_show("sh", p);
    char *none[] = {"none", NULL};
    SHOWE(posix_spawn(&p, "/no/such/file", NULL, NULL, none, environ));
    SHOWE(posix_spawnp(&p, "no-such-command-at-all", NULL, NULL, none, environ));
    SHOW(waitpid(-1, NULL, 0)); /* failed ones leave no zombie */
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    SHOWE(posix_spawn_file_actions_addopen(&fa, 1, "out", O_WRONLY | O_CREAT | O_TRUNC, 0644));
    SHOWE(posix_spawn_file_actions_adddup2(&fa, 1, 2));
    SHOWE(posix_spawn_file_actions_addclose(&fa, 0));
    char *both[] = {"sh", "-c", "echo to out; echo to err >&2", NULL};
    SHOWE(posix_spawnp(&p, "sh", &fa, NULL, both, environ));
    wait_show("redirected", p);
    show_file("out");
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 1, "/no/dir/out", O_WRONLY, 0);
    SHOWE(posix_spawn(&p, "/bin/sh", &fa, NULL, sh, environ));
    posix_spawnattr_t at;
    posix_spawnattr_init(&at);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    posix_spawnattr_setsigmask(&at, &set);
    posix_spawnattr_setpgroup(&at, 0);
    SHOWE(posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP));
    char *own[] = {"sh", "-c", "kill -USR1 $$; echo survived, blocked", NULL};
    MUST(posix_spawn(&p, "/bin/sh", NULL, &at, own, environ) == 0);
    wait_show("with attributes", p);
    for (int i = 0; i < 20; i++) {
        char *t[] = {"true", NULL};
        MUST(posix_spawn(&p, "/bin/true", NULL, NULL, t, environ) == 0);
        MUST(waitpid(p, NULL, 0) == p);
    }
    return done();
}
