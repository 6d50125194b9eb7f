// modes: static dynamic musl
// Three thousand pages that are filled once and then read, written, protected, moved, given up, mapped over and copied by fork, a
// few at a time with calls in between: an image that is restored in the middle has to give each of them back as it was, whatever is
// done to it first. With arguments (steps, microseconds between them) it runs as long as a test wants, and counts.
#include "../common.h"

enum { PAGES = 3000, PAGE = 4096 };

static unsigned char *at[PAGES]; /* where a page is now */
static uint32_t version[PAGES];  /* what it holds; 0: nothing */
static uint64_t seed = 88172645463325252u;

static unsigned rnd(unsigned n) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed % n);
}

static uint64_t word(unsigned page, uint32_t v, unsigned i) {
    return v ? (page * 0x9e3779b97f4a7c15u) ^ ((uint64_t)v << 32) ^ (i * 0xc2b2ae3d27d4eb4fu) : 0;
}

static void fill(unsigned page, uint32_t v) {
    uint64_t *w = (uint64_t *)at[page];
    for (unsigned i = 0; i < PAGE / 8; i += 37) w[i] = word(page, v, i);
    version[page] = v;
}

static int good(unsigned page) {
    const uint64_t *w = (const uint64_t *)at[page];
    for (unsigned i = 0; i < PAGE / 8; i += 37)
        if (w[i] != word(page, version[page], i)) return 0;
    return 1;
}

static volatile sig_atomic_t faults;
static unsigned char *opened;

static void on_segv(int sig, siginfo_t *si, void *uc) {
    (void)sig;
    (void)uc;
    faults++;
    opened = (unsigned char *)((uintptr_t)si->si_addr & ~(uintptr_t)(PAGE - 1));
    if (mprotect(opened, PAGE, PROT_READ | PROT_WRITE)) _exit(9);
}

int main(int argc, char **argv) {
    unsigned steps = argc > 1 ? (unsigned)atoi(argv[1]) : 1200, pause = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    unsigned char *all = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(all != MAP_FAILED);
    for (unsigned i = 0; i < PAGES; i++) {
        at[i] = all + (size_t)i * PAGE;
        // Every seventh is never written.
        if (i % 7 != 3) fill(i, 1);
        if (i % 16 == 0) getppid();
    }
    printf("filled\n");
    struct sigaction sa = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
    MUST(sigaction(SIGSEGV, &sa, NULL) == 0);
    unsigned bad = 0, moved = 0, dropped = 0;
    for (unsigned n = 0; n < steps; n++) {
        unsigned page = rnd(PAGES);
        getppid();
        switch (rnd(8)) {
        case 0:
            fill(page, version[page] + 1);
            break;
        case 1: // a write that the handler lets happen
            MUST(mprotect(at[page], PAGE, n % 2 ? PROT_NONE : PROT_READ) == 0);
            getppid();
            fill(page, version[page] + 1);
            MUST(opened == at[page]);
            break;
        case 2: { // somewhere else
            unsigned char *to = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            MUST(to != MAP_FAILED);
            MUST(mremap(at[page], PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
            at[page] = to;
            moved++;
            break;
        }
        case 3:
            MUST(madvise(at[page], PAGE, MADV_DONTNEED) == 0);
            version[page] = 0;
            dropped++;
            break;
        case 4: // a mapping over it
            MUST(mmap(at[page], PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at[page]);
            version[page] = 0;
            break;
        case 5: { // by the kernel
            int fd[2];
            MUST(pipe(fd) == 0);
            uint64_t w[2] = {0, 0};
            MUST(write(fd[1], at[page], sizeof w) == sizeof w);
            MUST(read(fd[0], w, sizeof w) == sizeof w);
            bad += w[0] != word(page, version[page], 0);
            close(fd[0]);
            close(fd[1]);
            break;
        }
        case 6:
            if (n % 10 == 0) { // by a child, which changes its own copy
                pid_t pid = fork();
                MUST(pid >= 0);
                if (pid == 0) {
                    unsigned wrong = 0;
                    for (unsigned k = 0; k < 40; k++) {
                        unsigned p = rnd(PAGES);
                        wrong += !good(p);
                        fill(p, 77);
                        getppid();
                        wrong += !good(p);
                    }
                    _exit(wrong != 0);
                }
                int status;
                MUST(waitpid(pid, &status, 0) == pid);
                bad += status != 0;
            }
            break;
        default:
            break;
        }
        bad += !good(page);
        bad += !good(rnd(PAGES));
        if (pause) {
            if (bad) break;
            printf("%u\n", n);
            usleep(pause);
        }
    }
    for (unsigned i = 0; i < PAGES; i++) bad += !good(i);
    printf("faults %d moved %u dropped %u bad %u\n", (int)faults, moved, dropped, bad);
    CHECK(bad == 0);
    return done();
}
