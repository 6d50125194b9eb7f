// modes: static dynamic musl
// getrlimit, setrlimit, prlimit: read back, lowered, raised or refused, inherited; RLIMIT_CPU and NPROC.
#include "../common.h"

int main(void) {
    struct rlimit r, old;
    for (int i = 0; i < 16; i++) {
        MUST(getrlimit(i, &r) == 0 && r.rlim_cur <= r.rlim_max);
        struct rlimit same = r;
        MUST(setrlimit(i, &same) == 0);
    }
    puts("all sixteen read and set again");
    SHOW(getrlimit(16, &r));
    r = (struct rlimit){10, 5};
    SHOW(setrlimit(RLIMIT_NOFILE, &r));
    r = (struct rlimit){100, 200};
    SHOW(setrlimit(RLIMIT_NOFILE, &r));
    r.rlim_cur = 200;
    SHOW(setrlimit(RLIMIT_NOFILE, &r));
    SHOW(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &old));
    printf("%ld %ld\n", (long)old.rlim_cur, (long)old.rlim_max);
    SHOW(syscall(SYS_prlimit64, getpid(), RLIMIT_CORE, &(struct rlimit){0, 0}, &old));
    SHOW(syscall(SYS_prlimit64, 999999999, RLIMIT_CORE, NULL, &old));
    pid_t p = fork();
    if (p == 0) {
        getrlimit(RLIMIT_NOFILE, &r);
        printf("inherited %ld %ld\n", (long)r.rlim_cur, (long)r.rlim_max);
        if (geteuid() == 0)
            MUST(setgid(12345) == 0 && setuid(12345) == 0);
        r.rlim_max = 300;
        SHOW(setrlimit(RLIMIT_NOFILE, &r));
        r = (struct rlimit){50, 50};
        SHOW(setrlimit(RLIMIT_NOFILE, &r));
        child_exit(0);
    }
    wait_show("child", p);
    return done();
}
