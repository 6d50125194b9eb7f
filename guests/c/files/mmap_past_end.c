// modes: static dynamic musl
// Pages behind a mapped file's end: SIGBUS by access, EFAULT through the kernel, there once the file grows; in every
// process that has the mapping, whoever changes the size, on each kind of file system.
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

/* 'B' for SIGBUS at exactly that address, else the byte as a digit or letter. */
static char touch(volatile char *p, int write) {
    if (sigsetjmp(jump, 1))
        return where == (char *)p && code == BUS_ADRERR ? 'B' : '?';
    if (write)
        *p = 'w';
    char c = *p;
    return c ? c : '0';
}
#define PG 4096

static void one(const char *name, int fd, int flags) {
    printf("%s %s\n", name, flags == MAP_SHARED ? "shared" : "private");
    MUST(ftruncate(fd, 0) == 0);
    MUST(pwrite(fd, "x", 1, PG + 99) == 1); /* one and a bit pages */
    char *m = mmap(NULL, 4 * PG, PROT_READ | PROT_WRITE, flags, fd, 0);
    MUST(m != MAP_FAILED);
    printf("  new: %c %c %c %c\n", touch(m, 0), touch(m + PG + 99, 0), touch(m + PG + 100, 0), touch(m + 2 * PG, 0));
    printf("  write behind the end: %c\n", touch(m + 3 * PG + 5, 1));
    int zero = open("/dev/zero", O_RDONLY);
    SHOW(read(zero, m + 2 * PG, 1));
    close(zero);
    SHOW(mprotect(m + PG, 2 * PG, PROT_READ));
    printf("  after mprotect: %c %c\n", touch(m + PG + 99, 0), touch(m + 2 * PG, 0));
    SHOW(mprotect(m + PG, 2 * PG, PROT_READ | PROT_WRITE));
    MUST(pwrite(fd, "y", 1, 2 * PG + 7) == 1); /* grows by a write */
    printf("  grown: %c %c %c\n", touch(m + 2 * PG + 7, 0), touch(m + 2 * PG + 8, 0), touch(m + 3 * PG, 0));
    m[0] = 'p';
    m[2 * PG] = 'q';
    fflush(stdout);
    pid_t p = fork();
    if (p == 0) { /* the child's own mapping follows the parent's truncation and the other way round */
        MUST(ftruncate(fd, PG) == 0);
        printf("  child: %c %c %c\n", touch(m, 0), touch(m + PG, 0), touch(m + 2 * PG, 0));
        fflush(stdout);
        _exit(0);
    }
    fflush(stdout);
    wait_show("  child", p);
    printf("  cut: %c %c %c\n", touch(m, 0), touch(m + PG, 0), touch(m + 2 * PG, 0));
    MUST(ftruncate(fd, 3 * PG) == 0);
    printf("  again: %c %c %c %c\n", touch(m, 0), touch(m + PG, 0), touch(m + 2 * PG, 0), touch(m + 3 * PG, 0));
    m[2 * PG] = 'r';
    char *n = mremap(m, 4 * PG, 6 * PG, MREMAP_MAYMOVE);
    MUST(n != MAP_FAILED);
    printf("  moved: %c %c %c\n", touch(n + 2 * PG, 0), touch(n + 3 * PG, 0), touch(n + 5 * PG, 0));
    MUST(ftruncate(fd, 6 * PG) == 0);
    printf("  whole: %c %c %c\n", touch(n + 2 * PG, 0), touch(n + 3 * PG, 0), touch(n + 5 * PG, 1));
    MUST(munmap(n, 6 * PG) == 0);
}

int main(void) {
    struct sigaction sa = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &sa, NULL);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    char shm[64], tmp[64];
    snprintf(shm, sizeof shm, "/dev/shm/past_end.%d", (int)getpid());
    snprintf(tmp, sizeof tmp, "/tmp/past_end.%d", (int)getpid());
    const struct { const char *name, *path; } at[] = {{"cwd", "f"}, {"shm", shm}, {"tmp", tmp}, {"memfd", NULL}};
    for (unsigned i = 0; i < 4; i++)
        for (int k = 0; k < 2; k++) {
            int fd = at[i].path ? open(at[i].path, O_RDWR | O_CREAT | O_TRUNC, 0600) : (int)syscall(SYS_memfd_create, "m", 0);
            MUST(fd >= 0);
            one(at[i].name, fd, k ? MAP_PRIVATE : MAP_SHARED);
            close(fd);
            if (at[i].path)
                unlink(at[i].path);
        }
    /* A cut by another open of the same file, and by open(O_TRUNC). */
    int fd = open("g", O_RDWR | O_CREAT, 0600);
    MUST(ftruncate(fd, 2 * PG) == 0);
    char *m = mmap(NULL, 2 * PG, PROT_READ, MAP_SHARED, fd, 0);
    int ro = open("g", O_RDONLY);
    char *r = mmap(NULL, 2 * PG, PROT_READ, MAP_PRIVATE, ro, 0);
    close(fd);
    printf("%c %c\n", touch(m + PG, 0), touch(r + PG, 0));
    SHOW(truncate("g", 10));
    printf("%c %c %c %c\n", touch(m, 0), touch(m + PG, 0), touch(r, 0), touch(r + PG, 0));
    close(open("g", O_WRONLY | O_TRUNC));
    printf("%c %c\n", touch(m, 0), touch(r, 0));
    return done();
}
