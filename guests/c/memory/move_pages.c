/* move_pages(2): long lists, lists that end early, what is written before an error. */
#include "../common.h"

#define PAGE 4096UL
enum { N = 100000, MOVE = 2 };
#define LIST ((N * sizeof(void *) + PAGE - 1) / PAGE * PAGE)
static long move_pages(long pid, unsigned long n, void **pages, const int *nodes, int *status, int flags) {
    return syscall(SYS_move_pages, pid, n, pages, nodes, status, flags);
}

int main(void) {
    char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void **list = mmap(NULL, LIST + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int *status = calloc(N, sizeof *status), *nodes = calloc(N, sizeof *nodes);
    MUST(p != MAP_FAILED && list != MAP_FAILED && status && nodes);
    p[0] = p[PAGE] = 1;
    for (int i = 0; i < N; i++) {
        list[i] = i % 3 == 2 ? BAD : p + i % 3 * PAGE;
        status[i] = 99;
    }
    SHOW(move_pages(0, N, list, NULL, status, 0));
    bool good = true;
    for (int i = 0; i < N; i++)
        good &= status[i] == (i % 3 == 2 ? -EFAULT : 0);
    CHECK(good);
    SHOW(move_pages(0, 0, list, NULL, status, 0));
    SHOW(move_pages(0, 0, NULL, NULL, NULL, MOVE));
    SHOW(move_pages(0, 1, list, NULL, status, 1));
    SHOW(move_pages(0, 1, list, NULL, status, 16));
    SHOW(move_pages(999999, 1, list, NULL, status, 0));
    /* The list ends before its number does. */
    unsigned long last = LIST / sizeof *list;
    MUST(munmap((char *)list + LIST, PAGE) == 0);
    SHOW(move_pages(0, 1UL << 40, list + last - 20, NULL, status, 0));
    SHOW(move_pages(0, ULONG_MAX, list + last - 20, NULL, status, 0));
    SHOW(move_pages(0, 3, list, NULL, BAD, 0));
    SHOW(move_pages(0, 3, BAD, NULL, status, 0));
    SHOW(move_pages(0, 2, list, BAD, status, MOVE));
    SHOW(move_pages(0, 2, list, nodes, status, MOVE));
    printf("%d %d\n", status[0], status[1]);
    nodes[1] = 1000;
    SHOW(move_pages(0, 2, list, nodes, status, MOVE));
    nodes[1] = -1;
    SHOW(move_pages(0, 2, list, nodes, status, MOVE));
    return done();
}
