// modes: static dynamic
// Two processes that compute side by side and write much memory, their own and shared: where one is preempted, tens of MB have
// been written since it was looked at, in pages that a process that was forked just now has never touched.
#include "../common.h"
#include <sys/mman.h>
#include <sys/wait.h>

#define PAGES 1500
#define ROUNDS 40

static unsigned char *map(int how) {
    unsigned char *p = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, how | MAP_ANONYMOUS, -1, 0);
    MUST(p != MAP_FAILED);
    return p;
}

// No system call in here.
static unsigned long compute(unsigned char *own, unsigned char *shared, int who) {
    unsigned long sum = 0;
    for (int r = 0; r < ROUNDS; r++)
        for (int i = 0; i < PAGES; i++) {
            unsigned char *a = own + i * 4096 + r, *b = shared + i * 4096 + 64 * who + r;
            for (int k = 0; k < 1024; k += 16) {
                a[k] += r + i + who;
                sum = sum * 31 + a[k];
            }
            *b += r + i;
            sum = sum * 31 + *b;
        }
    return sum;
}

int main(void) {
    unsigned char *own = map(MAP_PRIVATE), *shared = map(MAP_SHARED);
    // What both have before the fork.
    for (int i = 0; i < PAGES; i++)
        own[i * 4096] = shared[i * 4096 + 2048] = i;
    int pipes[2];
    MUST(pipe(pipes) == 0);
    for (int who = 1; who <= 2; who++) {
        pid_t pid = fork();
        MUST(pid >= 0);
        if (pid == 0) {
            unsigned long sum[2] = {who, compute(own, shared, who)};
            MUST(write(pipes[1], sum, sizeof sum) == sizeof sum);
            _exit(0);
        }
    }
    unsigned long mine = compute(own, shared, 0), sums[3] = {mine};
    for (int n = 0; n < 2; n++) {
        unsigned long sum[2];
        MUST(read(pipes[0], sum, sizeof sum) == sizeof sum);
        sums[sum[0]] = sum[1];
    }
    while (wait(NULL) > 0)
        ;
    unsigned long all = 0;
    for (int i = 0; i < PAGES * 4096; i++)
        all = all * 31 + shared[i];
    for (int who = 0; who < 3; who++)
        printf("%d: %016lx\n", who, sums[who]);
    printf("shared: %016lx\n", all);
    return done();
}
