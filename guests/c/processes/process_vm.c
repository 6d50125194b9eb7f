// needs: threads
/* process_vm_readv and process_vm_writev: how much is moved when a buffer of either side ends early, transfers of
 * many pieces, and lists that another thread changes meanwhile. */
#include "../common.h"
#include <pthread.h>

#define PAGE 4096UL
enum { BIG = 1 << 20 };
static char *far, *near;

static void *hole(void *at, size_t page) {
    MUST(mprotect((char *)at + page * PAGE, PAGE, PROT_NONE) == 0);
    return at;
}
static char *map(size_t n) {
    char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(p != MAP_FAILED);
    return p;
}
static struct iovec *flips;
static volatile bool over;
static void *flip(void *arg) {
    while (!over) {
        mprotect(flips, PAGE, PROT_NONE);
        sched_yield();
        mprotect(flips, PAGE, PROT_READ | PROT_WRITE);
        sched_yield();
    }
    return arg;
}

int main(void) {
    far = map(BIG);
    near = map(BIG);
    for (size_t i = 0; i < BIG; i++)
        far[i] = (char)(i % 251);
    int p[2];
    MUST(pipe(p) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        hole(far, 20);
        char c = 0;
        MUST(write(p[1], &c, 1) == 1);
        pause();
        _exit(0);
    }
    char c;
    MUST(read(p[0], &c, 1) == 1);
    struct iovec l[4], r[4];
    l[0] = (struct iovec){near, BIG};
    r[0] = (struct iovec){far, BIG};
    /* The other side ends early, at a page that nobody may read. */
    SHOW(process_vm_readv(pid, l, 1, r, 1, 0));
    CHECK(memcmp(near, far, 20 * PAGE) == 0);
    SHOW(process_vm_writev(pid, l, 1, r, 1, 0));
    r[0] = (struct iovec){far + 20 * PAGE, 10};
    SHOW(process_vm_readv(pid, l, 1, r, 1, 0));
    SHOW(process_vm_writev(pid, l, 1, r, 1, 0));
    /* The whole of it in chunks. */
    r[0] = (struct iovec){far + 21 * PAGE, BIG - 21 * PAGE};
    SHOW(process_vm_readv(pid, l, 1, r, 1, 0));
    CHECK(memcmp(near, far + 21 * PAGE, BIG - 21 * PAGE) == 0);
    /* Many pieces, and one side shorter. */
    for (int i = 0; i < 4; i++) {
        l[i] = (struct iovec){near + i * 5000, 4999 - i};
        r[i] = (struct iovec){far + i * 7000, 100 * (size_t)i + 4000};
    }
    memset(near, 0, BIG);
    SHOW(process_vm_readv(pid, l, 4, r, 4, 0));
    SHOW(process_vm_readv(pid, l, 2, r, 4, 0));
    SHOW(process_vm_readv(pid, l, 4, r, 1, 0));
    SHOW(process_vm_readv(pid, l, 0, r, 1, 0));
    SHOW(process_vm_readv(pid, l, 1, r, 0, 0));
    SHOW(process_vm_readv(pid, l, 1, r, 1025, 0));
    /* A second piece of the other side that is not there. */
    r[1].iov_base = far + 20 * PAGE;
    SHOW(process_vm_readv(pid, l, 4, r, 4, 0));
    /* This side ends early. */
    hole(near, 3);
    l[0] = (struct iovec){near, BIG};
    r[0] = (struct iovec){far, 10 * PAGE};
    SHOW(process_vm_readv(pid, l, 1, r, 1, 0));
    SHOW(process_vm_writev(pid, l, 1, r, 1, 0));
    l[0] = (struct iovec){near + 2 * PAGE + 100, 2 * PAGE};
    SHOW(process_vm_readv(pid, l, 1, r, 1, 0));
    l[0] = (struct iovec){near + 3 * PAGE, PAGE};
    SHOW(process_vm_readv(pid, l, 1, r, 1, 0));
    SHOW(process_vm_writev(pid, l, 1, r, 1, 0));

    /* A call that fails leaves nothing to the next one, whose buffer is small. */
    flips = (struct iovec *)map(PAGE);
    char *word = map(PAGE);
    memset(word, 0x5a, PAGE);
    flips[0] = (struct iovec){near + 4 * PAGE, 200000};
    pthread_t t;
    MUST(pthread_create(&t, NULL, flip, NULL) == 0);
    bool clean = true;
    struct iovec big = {far + 21 * PAGE, 200000}, small = {far, 8}, eight = {word, 8};
    for (int i = 0; i < 300; i++) {
        long n = process_vm_readv(pid, flips, 1, &big, 1, 0);
        clean &= n == 200000 || (n == -1 && errno == EFAULT);
        clean &= process_vm_readv(pid, &eight, 1, &small, 1, 0) == 8;
        clean &= memcmp(word, far, 8) == 0 && word[8] == 0x5a && word[PAGE - 1] == 0x5a;
    }
    over = true;
    pthread_join(t, NULL);
    CHECK(clean);
    kill(pid, SIGKILL);
    wait_show("child", pid);
    SHOW(process_vm_readv(pid, l, 1, r, 1, 0));
    return done();
}
