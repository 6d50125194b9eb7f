// modes: static dynamic musl
// Truncating a mapped file: pages beyond the end raise SIGBUS, growing again brings zeroes.
#include "../common.h"
#include <setjmp.h>

static sigjmp_buf jump;
static volatile sig_atomic_t code;
static char *volatile where;
static void on_bus(int s, siginfo_t *i, void *u) {
    (void)s, (void)u;
    code = i->si_code;
    where = i->si_addr;
    siglongjmp(jump, 1);
}

int main(void) {
    struct sigaction sa = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &sa, NULL);
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    MUST(ftruncate(fd, 8192) == 0);
    char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    m[0] = 'a';
    m[100] = 'b';
    m[4096] = 'c';
    SHOW(ftruncate(fd, 50));
    CHECK(m[0] == 'a' && m[100] == 0);
    if (sigsetjmp(jump, 1) == 0) {
        (void)*(volatile char *)(m + 4096);
        puts("no SIGBUS");
    } else
        CHECK(where == m + 4096 && code == BUS_ADRERR);
    SHOW(write(fd, m + 4096, 1)); /* the same page through the kernel */
    SHOW(ftruncate(fd, 8192));
    CHECK(m[0] == 'a' && m[100] == 0 && m[4096] == 0);
    m[4096] = 'z';
    SHOW(ftruncate(fd, 0));
    SHOW(ftruncate(fd, 8192));
    CHECK(m[0] == 0 && m[4096] == 0);
    SHOW(ftruncate(fd, 0));
    no_core();
    pid_t p = fork();
    if (p == 0) {
        signal(SIGBUS, SIG_DFL);
        (void)*(volatile char *)m;
        _exit(0);
    }
    wait_show("child", p);
    return done();
}
