// modes: static dynamic musl
// stdin: \n\n\n\n\n
// held
// timeout: 90
// Cuts around fork and exec: children between the two, children of vfork that have not executed, processes that fork, execute and wait all
// the time, a tree of them that dies.
#include "../held.h"
#include <spawn.h>

extern char **environ;
static struct { volatile int about[16]; volatile pid_t pid[16]; volatile long done, bad; } *seen;
static volatile int *stop;
static char *self;

static int in_exec(int argc, char **argv) {
    if (argc > 3) { /* descriptor 9 came along, descriptor 8 was close-on-exec */
        char c = 0;
        int good = read(9, &c, 1) == 1 && c == 'i' && fcntl(8, F_GETFD) == -1;
        sigset_t now;
        sigprocmask(SIG_BLOCK, NULL, &now);
        return good && sigismember(&now, SIGTERM) ? 40 + atoi(argv[2]) : 1;
    }
    return atoi(argv[2]);
}

/* A child that stops between fork and exec until it is told to go on. */
static void between(int n, int go) {
    char c, number[8];
    int in[2];
    MUST(pipe(in) == 0 && write(in[1], "i", 1) == 1);
    MUST(dup2(in[0], 9) == 9 && dup3(in[1], 8, O_CLOEXEC) == 8);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    snprintf(number, sizeof number, "%d", n);
    seen->pid[n] = getpid();
    seen->about[n] = 1;
    if (read(go, &c, 1) == 1)
        execl(self, self, "exec", number, "with", NULL);
    _exit(2);
}

static void forks_all_the_time(int how) {
    while (!*stop) {
        char *args[] = {self, "exec", "5", NULL};
        int st = 0;
        pid_t p;
        if (how == 0) {
            if ((p = fork()) == 0)
                execv(self, args), _exit(1);
        } else if (how == 1) {
            if ((p = vfork()) == 0)
                execv(self, args), _exit(1);
        } else if (how == 2) {
            MUST(posix_spawn(&p, self, NULL, NULL, args, environ) == 0);
        } else if ((p = fork()) == 0) {
            pid_t q = fork(); /* one more, which is reaped by its parent */
            if (q == 0)
                _exit(5);
            int t = 0;
            _exit(waitpid(q, &t, 0) == q ? WEXITSTATUS(t) : 1);
        }
        MUST(waitpid(p, &st, 0) == p);
        if (!WIFEXITED(st) || WEXITSTATUS(st) != 5)
            __atomic_fetch_add(&seen->bad, 1, __ATOMIC_SEQ_CST);
        __atomic_fetch_add(&seen->done, 1, __ATOMIC_SEQ_CST);
    }
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc > 2)
        return in_exec(argc, argv);
    self = argv[0];
    seen = shared(sizeof *seen);
    stop = shared(4096);
    int go[2], st;
    pid_t pid[16];
    enum { BETWEEN = 4, VFORKS = 3, ALL = BETWEEN + VFORKS };
    MUST(pipe(go) == 0);
    fflush(stdout);
    for (int n = 0; n < BETWEEN; n++)
        if ((pid[n] = fork()) == 0)
            between(n, go[0]);
    for (int n = BETWEEN; n < ALL; n++) {
        if ((pid[n] = fork()) == 0) {
            volatile int mine = 1;
            pid_t p = vfork();
            if (p == 0) {
                char c;
                mine = 2; /* the parent's own memory */
                seen->pid[n] = getpid();
                seen->about[n] = 1;
                if (n == ALL - 1)
                    _exit(read(go[0], &c, 1) == 1 ? 30 : 1);
                if (read(go[0], &c, 1) == 1)
                    execl(self, self, "exec", "30", NULL);
                _exit(1);
            }
            MUST(waitpid(p, &st, 0) == p);
            _exit(WEXITSTATUS(st) + mine);
        }
    }
    for (int n = 0; n < ALL; n++) {
        while (!seen->pid[n])
            sleep_ms(1);
        await_state(&seen->about[n], seen->pid[n], seen->pid[n], "S");
        if (n >= BETWEEN)
            await_state(&seen->about[n], pid[n], pid[n], "SD");
    }
    held("between fork and exec, and inside vfork");
    for (int n = 0; n < ALL; n++) {
        await_state(&seen->about[n], seen->pid[n], seen->pid[n], "S");
        MUST(waitpid(pid[n], &st, WNOHANG) == 0);
    }
    MUST(write(go[1], "goesalong", ALL) == ALL);
    for (int n = 0; n < ALL; n++)
        wait_show(n < BETWEEN ? "forked" : "vforked", pid[n]);

    for (int n = 0; n < 4; n++)
        if ((pid[n] = fork()) == 0)
            forks_all_the_time(n);
    for (int round = 0; round < 3; round++) {
        long then = seen->done;
        while (seen->done < then + 20)
            sleep_ms(1);
        held("four that fork, execute and wait all the time");
    }
    *stop = 1;
    for (int n = 0; n < 4; n++)
        wait_show("one of them", pid[n]);
    SHOW(seen->bad);

    /* Zombies, orphans of a parent that has died, and a group that is killed behind the cut. */
    MUST(pipe(go) == 0);
    pid_t leader = fork();
    if (leader == 0) {
        setpgid(0, 0);
        pid_t zombie = fork();
        if (zombie == 0)
            _exit(9);
        siginfo_t i;
        MUST(waitid(P_PID, (id_t)zombie, &i, WEXITED | WNOWAIT) == 0);
        seen->pid[0] = zombie;
        if (fork() == 0) {
            if (fork() == 0) {
                seen->about[0] = 2;
                pause();
            }
            _exit(0);
        }
        pause();
    }
    while (seen->about[0] != 2 || state_of(seen->pid[0], seen->pid[0]) != 'Z')
        sleep_ms(1);
    held("a zombie, and an orphan");
    SHOW(state_of(seen->pid[0], seen->pid[0]));
    MUST(kill(-leader, SIGKILL) == 0);
    wait_show("their leader", leader);
    char c;
    close(go[1]);
    SHOW(read(go[0], &c, 1)); /* the last one that held the pipe is gone */
    return done();
}
