// modes: static dynamic musl
// sbrk and raw brk beside malloc: growth is zeroed, shrinking and refusing work, RLIMIT_DATA is honoured.
#include "../common.h"

int main(void) {
    puts("stdio has its buffer"); /* so that malloc does not move the break below */
    char *start = (char *)syscall(SYS_brk, 0);
    CHECK(start != NULL);
    char *top = (char *)syscall(SYS_brk, start + 1000000);
    CHECK(top == start + 1000000);
    CHECK(start[0] == 0 && start[999999] == 0);
    start[999999] = 1;
    CHECK((char *)syscall(SYS_brk, start + 500000) == start + 500000);
    CHECK((char *)syscall(SYS_brk, start + 1000000) == start + 1000000);
    CHECK(start[999999] == 0);
    CHECK((char *)syscall(SYS_brk, BAD) == start + 1000000);
    struct rlimit r = {0, RLIM_INFINITY};
    MUST(setrlimit(RLIMIT_DATA, &r) == 0);
    CHECK((char *)syscall(SYS_brk, start + 3000000) == start + 1000000);
    r.rlim_cur = RLIM_INFINITY;
    MUST(setrlimit(RLIMIT_DATA, &r) == 0);
    pid_t p = fork();
    if (p == 0) {
        CHECK((char *)syscall(SYS_brk, 0) == start + 1000000);
        CHECK((char *)syscall(SYS_brk, start) == start);
        child_exit(0);
    }
    wait_show("child", p);
    CHECK((char *)syscall(SYS_brk, 0) == start + 1000000);
    start[0] = 5;
    CHECK((char *)syscall(SYS_brk, start) == start);
    char *m = malloc(1 << 20);
    memset(m, 1, 1 << 20);
    free(m);
    return done();
}
