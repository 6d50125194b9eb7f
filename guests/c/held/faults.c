// modes: static dynamic musl
// stdin: \n\n\n
// held
// timeout: 90
// Cuts while processes do nothing but fault: new memory, discarded memory, pages that a handler gives, growing stacks, files under private and
// shared mappings, copies behind a fork, a moving break. Beside them memory in every state that a page can be in.
#include "../held.h"
#include <pthread.h>
#include <ucontext.h>

enum { PAGE = 4096, PAGES = 64 };
static struct { volatile long rounds[16]; volatile int stop; } *seen;
static int me, file;

static unsigned char want(int page, int byte, int salt) { return (unsigned char)(page * 37 + byte / 8 + salt * 101 + 1); }
static void fill(unsigned char *m, int page, int salt) {
    for (int b = 0; b < PAGE; b++)
        m[page * PAGE + b] = want(page, b, salt);
}
static bool has(const unsigned char *m, int page, int salt) { /* salt -1: zeros */
    for (int b = 0; b < PAGE; b++)
        if (m[page * PAGE + b] != (salt < 0 ? 0 : want(page, b, salt)))
            return false;
    return true;
}
static unsigned char *map(int pages, int prot, int flags, int fd) {
    unsigned char *m = mmap(NULL, (size_t)pages * PAGE, prot, flags | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    MUST(m != MAP_FAILED);
    return m;
}
enum { RW = PROT_READ | PROT_WRITE };

static void anonymous(int salt) {
    unsigned char *m = map(PAGES, RW, MAP_PRIVATE, -1);
    for (int p = 0; p < PAGES; p += 2)
        fill(m, p, salt);
    MUST(madvise(m, PAGES / 4 * PAGE, MADV_DONTNEED) == 0);
    for (int p = 0; p < PAGES; p++)
        MUST(has(m, p, p < PAGES / 4 || p % 2 ? -1 : salt));
    m = mremap(m, PAGES * PAGE, 3 * PAGES * PAGE, MREMAP_MAYMOVE);
    MUST(m != MAP_FAILED);
    for (int p = 2 * PAGES; p < 3 * PAGES; p += 3)
        fill(m, p, salt);
    for (int p = PAGES / 4; p < PAGES; p++)
        MUST(has(m, p, p % 2 ? -1 : salt));
    MUST(munmap(m + PAGES * PAGE, PAGES * PAGE) == 0);
    for (int p = 2 * PAGES; p < 3 * PAGES; p++)
        MUST(has(m, p, (p - 2 * PAGES) % 3 ? -1 : salt));
    MUST(munmap(m, PAGES * PAGE) == 0 && munmap(m + 2 * PAGES * PAGE, PAGES * PAGE) == 0);
}

static int __attribute__((noinline)) deep(int n, int salt) {
    volatile unsigned char frame[3000];
    memset((unsigned char *)frame, n + salt, sizeof frame);
    int below = n ? deep(n - 1, salt) : 0;
    for (unsigned i = 0; i < sizeof frame; i++)
        below += frame[i] != (unsigned char)(n + salt);
    return below;
}
static void *on_a_thread(void *salt) { return (void *)(long)deep(20, (int)(long)salt); }
static void stacks(int salt) {
    MUST(deep(100 + salt % 300, salt) == 0);
    pthread_t t;
    void *wrong;
    MUST(pthread_create(&t, NULL, on_a_thread, (void *)(long)salt) == 0 && pthread_join(t, &wrong) == 0 && !wrong);
}

static unsigned char *guarded;
static volatile int given;
static void gives(int s, siginfo_t *i, void *u) {
    (void)s, (void)u;
    unsigned char *p = (unsigned char *)((uintptr_t)i->si_addr & -(uintptr_t)PAGE);
    if (p < guarded || p >= guarded + PAGES * PAGE || mprotect(p, PAGE, RW) != 0)
        _exit(3);
    given++;
}
static void handler(int salt) {
    if (!guarded) {
        struct sigaction a = {.sa_sigaction = gives, .sa_flags = SA_SIGINFO};
        sigaction(SIGSEGV, &a, NULL);
        guarded = map(PAGES, PROT_NONE, MAP_PRIVATE, -1);
    }
    given = 0;
    for (int p = 0; p < PAGES; p++) {
        if (salt > 1)
            MUST(has(guarded, p, salt - 1)); /* what it had while nobody could see it */
        fill(guarded, p, salt);
    }
    MUST(given == PAGES);
    MUST(mprotect(guarded, PAGES * PAGE, PROT_NONE) == 0);
}

static void files(int salt) {
    unsigned char *p = map(PAGES, RW, MAP_PRIVATE, file), *s = map(PAGES, RW, MAP_SHARED, file);
    MUST(has(p, 3, 0) && has(p, 5, 0));
    fill(p, 5, salt);
    MUST(has(s, 5, 0) && has(p, 5, salt));
    MUST(madvise(p, PAGES * PAGE, MADV_DONTNEED) == 0 && has(p, 5, 0));
    fill(p, 6, salt);
    fill(s, 40, salt); /* the upper half is this worker's alone */
    unsigned char buf[PAGE];
    MUST(pread(file, buf, PAGE, 40 * PAGE) == PAGE && memcmp(buf, s + 40 * PAGE, PAGE) == 0 && has(p, 40, salt) && has(p, 6, salt));
    MUST(munmap(p, PAGES * PAGE) == 0 && munmap(s, PAGES * PAGE) == 0);
}

static void copies(int salt) {
    static unsigned char *m;
    int st;
    if (!m)
        m = map(PAGES, RW, MAP_PRIVATE, -1);
    for (int p = 0; p < PAGES; p++)
        fill(m, p, salt);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        for (int p = 0; p < PAGES; p += 2)
            fill(m, p, salt + 1);
        for (int p = 0; p < PAGES; p++)
            MUST(has(m, p, salt + !(p % 2)));
        _exit(0);
    }
    for (int p = 1; p < PAGES; p += 4)
        fill(m, p, salt + 2);
    for (int p = 0; p < PAGES; p++)
        MUST(has(m, p, p % 4 == 1 ? salt + 2 : salt));
    MUST(waitpid(pid, &st, 0) == pid && st == 0);
}

static void breaks(int salt) {
    unsigned char *b = (unsigned char *)(((uintptr_t)sbrk(0) + PAGE - 1) & -(uintptr_t)PAGE);
    MUST(syscall(SYS_brk, b + PAGES * PAGE) == (long)(b + PAGES * PAGE));
    for (int p = 0; p < PAGES; p += 3)
        fill(b, p, salt);
    for (int p = 0; p < PAGES; p++)
        MUST(has(b, p, p % 3 ? -1 : salt));
    MUST(syscall(SYS_brk, b) == (long)b);
}

static void (*const kinds[])(int) = {anonymous, stacks, handler, files, copies, breaks};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* Memory that nobody touches across the cut. */
static unsigned char *half, *hidden, *discarded, *huge, *over_file, *of_memfd, *both, *only_read;
static int memory_file;
static void set_up(void) {
    half = map(PAGES, RW, MAP_PRIVATE, -1);
    for (int p = 0; p < PAGES / 2; p++)
        fill(half, p, 1);
    hidden = map(PAGES, RW, MAP_PRIVATE, -1);
    for (int p = 0; p < PAGES; p += 2)
        fill(hidden, p, 2);
    MUST(mprotect(hidden, PAGES * PAGE, PROT_NONE) == 0);
    discarded = map(PAGES, RW, MAP_PRIVATE, -1);
    for (int p = 0; p < PAGES; p++)
        fill(discarded, p, 3);
    MUST(madvise(discarded + 8 * PAGE, 8 * PAGE, MADV_DONTNEED) == 0);
    MUST(munmap(discarded + 32 * PAGE, 8 * PAGE) == 0);
    huge = map(1 << 18, RW, MAP_PRIVATE | MAP_NORESERVE, -1);
    for (int p = 0; p < 1 << 18; p += 50000)
        fill(huge, p, 4);
    over_file = map(PAGES, RW, MAP_PRIVATE, file);
    fill(over_file, 7, 5);
    MUST(has(over_file, 8, 0));
    memory_file = memfd_create("held", 0);
    MUST(memory_file >= 0 && ftruncate(memory_file, PAGES * PAGE) == 0);
    of_memfd = map(PAGES, RW, MAP_SHARED, memory_file);
    for (int p = 0; p < PAGES; p += 2)
        fill(of_memfd, p, 6);
    MUST(fallocate(memory_file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8 * PAGE, 8 * PAGE) == 0);
    both = shared(PAGES * PAGE);
    fill(both, 1, 7);
    only_read = map(PAGES, PROT_READ, MAP_PRIVATE, -1);
    MUST(has(only_read, 9, -1));
}
static int wrong_memory(void) {
    int wrong = 0;
    for (int p = 0; p < PAGES; p++) {
        wrong += !has(half, p, p < PAGES / 2 ? 1 : -1);
        if (p < 32 || p >= 40)
            wrong += !has(discarded, p, p >= 8 && p < 16 ? -1 : 3);
        wrong += !has(of_memfd, p, p % 2 || (p >= 8 && p < 16) ? -1 : 6);
        wrong += !has(both, p, p == 1 ? 7 : -1);
        wrong += !has(only_read, p, -1);
    }
    for (int p = 0; p < 1 << 18; p += 25000)
        wrong += !has(huge, p, p % 50000 ? -1 : 4);
    wrong += !has(over_file, 7, 5) + !has(over_file, 8, 0);
    MUST(mprotect(hidden, PAGES * PAGE, PROT_READ) == 0);
    for (int p = 0; p < PAGES; p++)
        wrong += !has(hidden, p, p % 2 ? -1 : 2);
    MUST(mprotect(hidden, PAGES * PAGE, PROT_NONE) == 0);
    return wrong;
}
static volatile int faulted;
static void counts(int s, siginfo_t *i, void *u) {
    (void)s;
    faulted = i->si_code;
    ((ucontext_t *)u)->uc_mcontext.gregs[REG_RIP] += 2; /* movb (%rax),%al */
}
static int fault_at(unsigned char *at) {
    struct sigaction a = {.sa_sigaction = counts, .sa_flags = SA_SIGINFO}, old;
    faulted = 0;
    sigaction(SIGSEGV, &a, &old);
    __asm__ volatile("movb (%0), %%al" : "+a"(at) : : "memory");
    sigaction(SIGSEGV, &old, NULL);
    return faulted;
}

int main(void) {
    char name[] = "/tmp/ftl-held-XXXXXX";
    seen = shared(sizeof *seen);
    file = mkstemp(name);
    MUST(file >= 0 && unlink(name) == 0);
    unsigned char *page = malloc(PAGE * PAGES);
    for (int p = 0; p < PAGES; p++)
        fill(page, p, 0);
    MUST(write(file, page, PAGE * PAGES) == PAGE * PAGES);
    set_up();
    pid_t pid[KINDS];
    fflush(stdout);
    for (me = 0; me < KINDS; me++)
        if ((pid[me] = fork()) == 0) {
            for (int salt = 1; !seen->stop; salt++) {
                kinds[me](salt);
                seen->rounds[me]++;
            }
            child_exit(0);
        }
    for (int round = 0; round < 3; round++) {
        long then[KINDS];
        for (int k = 0; k < KINDS; k++)
            then[k] = seen->rounds[k];
        for (int k = 0; k < KINDS; k++)
            while (seen->rounds[k] < then[k] + 3 && waitpid(pid[k], NULL, WNOHANG) == 0)
                sleep_ms(1);
        held("faults all the time");
        SHOW(wrong_memory());
        SHOW(fault_at(hidden + 5) == SEGV_ACCERR);
        SHOW(fault_at(discarded + 33 * PAGE) == SEGV_MAPERR);
    }
    seen->stop = 1;
    for (int k = 0; k < KINDS; k++)
        wait_show("faults", pid[k]);
    return done();
}
