/* One node: move_pages, migrate_pages, set_mempolicy_home_node; cachestat and process_mrelease. */
#include "../common.h"
#define NR_migrate 256
#define NR_move 279
#define NR_mrelease 448
#define NR_home 450
#define NR_cachestat 451
struct range { uint64_t off, len; };
struct stats { uint64_t cache, dirty, writeback, evicted, recent; };

int main(void) {
    char *p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(p != MAP_FAILED);
    madvise(p, 3 * 4096, MADV_NOHUGEPAGE);
    p[0] = 1;
    munmap(p + 2 * 4096, 4096);
    void *pages[3] = {p, p + 4096, p + 2 * 4096};
    int status[3] = {9, 9, 9}, nodes[3] = {0, 0, 0};
    SHOW(syscall(NR_move, 0, 3UL, pages, NULL, status, 0));
    CHECK(status[0] == 0);
    printf("%s %s\n", err_name(-status[1]), err_name(-status[2]));
    SHOW(syscall(NR_move, 0, 1UL, pages, nodes, status, 2));
    SHOW(syscall(NR_move, 0, 1UL, pages, NULL, status, 8));
    nodes[0] = 999;
    SHOW(syscall(NR_move, 0, 1UL, pages, nodes, status, 2));
    SHOW(syscall(NR_move, 999999, 1UL, pages, NULL, status, 0));
    unsigned long one = 1, none = 0;
    SHOW(syscall(NR_migrate, 0, 2UL, &one, &one));
    SHOW(syscall(NR_migrate, 0, 2UL, &one, &none));
    SHOW(syscall(NR_home, p, 4096UL, 0UL, 1UL));
    SHOW(syscall(NR_home, p + 1, 4096UL, 0UL, 0UL));
    SHOW(syscall(NR_home, p, 0UL, 0UL, 0UL));
    SHOW(syscall(NR_home, p, 4096UL, 0UL, 0UL));

    int fd = memfd_create("x", 0);
    MUST(fd >= 0);
    char buf[4096];
    memset(buf, 1, sizeof buf);
    for (int i = 0; i < 4; i++)
        MUST(write(fd, buf, sizeof buf) == sizeof buf);
    struct range r = {0, 0};
    struct stats s;
    memset(&s, 7, sizeof s);
    SHOW(syscall(NR_cachestat, fd, &r, &s, 0));
    printf("cached %lu evicted %lu\n", (unsigned long)s.cache, (unsigned long)s.evicted);
    r = (struct range){4096, 4097};
    SHOW(syscall(NR_cachestat, fd, &r, &s, 0));
    printf("cached %lu\n", (unsigned long)s.cache);
    SHOW(syscall(NR_cachestat, fd, &r, &s, 1));
    SHOW(syscall(NR_cachestat, -1, &r, &s, 0));
    SHOW(syscall(NR_cachestat, fd, NULL, &s, 0));

    int go[2];
    MUST(pipe(go) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        close(go[1]);
        (void)!read(go[0], &c, 1);
        _exit(0);
    }
    int pidfd = syscall(434, pid, 0);
    MUST(pidfd >= 0);
    SHOW(syscall(NR_mrelease, pidfd, 1));
    SHOW(syscall(NR_mrelease, pidfd, 0));
    SHOW(syscall(NR_mrelease, fd, 0));
    kill(pid, SIGKILL);
    siginfo_t info;
    MUST(waitid(P_PID, pid, &info, WEXITED | WNOWAIT) == 0);
    SHOW(syscall(NR_mrelease, pidfd, 0));
    waitpid(pid, NULL, 0);
    return done();
}
