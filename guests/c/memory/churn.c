// timeout: 90
// Memory that never rests: pages are written, mapped anew, moved, given back, made of files, shared with children that
// come and go. Every page says what it must hold, so that a copy of the program taken at any moment can be checked.
// With arguments (steps, microseconds between them, 0: shared memory is not given back) it runs as long as a test wants; `ok` is printed every 1000 steps.
#include "../common.h"

enum { REGIONS = 24, MOST = 64, SHARED = 64, P = 4096, BESIDE = 48, TAIL = 16 };

struct region {
    unsigned char *at;
    unsigned pages;
    bool file;
    uint32_t version[MOST]; /* 0: as mapped */
};

static struct region all[REGIONS];
static uint32_t *shared_versions;
static unsigned char *shared;
static uint32_t dice = 12345;
static int file = -1;
static uint32_t step_now;
static bool removes = true;

/* Pages beside which memory that nobody has written is moved again and again. */
static unsigned char *still;
static uint32_t still_versions[BESIDE];

static uint32_t roll(uint32_t below) {
    dice = dice * 1664525u + 1013904223u;
    return (dice >> 8) % below;
}

static void fill(unsigned char *page, uint32_t tag, uint32_t version) {
    uint32_t *w = (uint32_t *)page;
    for (unsigned i = 0; i < P / 4; i++) w[i] = tag * 2654435761u ^ version * 40503u ^ i;
}

static bool holds(const unsigned char *page, uint32_t tag, uint32_t version) {
    const uint32_t *w = (const uint32_t *)page;
    for (unsigned i = 0; i < P / 4; i++)
        if (w[i] != (tag * 2654435761u ^ version * 40503u ^ i)) return false;
    return true;
}

static bool is_zero(const unsigned char *page) {
    for (unsigned i = 0; i < P; i++)
        if (page[i]) return false;
    return true;
}

static void fail(const char *what, unsigned r, unsigned p) {
    printf("FAIL %s: region %u page %u\n", what, r, p);
    fflush(stdout);
    _exit(1);
}

static void check_page(unsigned r, unsigned p) {
    struct region *g = &all[r];
    const unsigned char *page = g->at + (size_t)p * P;
    if (g->version[p] ? holds(page, r * MOST + p, g->version[p])
                      : g->file ? holds(page, 1000000 + p, 7) : is_zero(page))
        return;
    /* What it holds says where it went wrong: an older version, another page's contents, a file's, zeros, a mixture. */
    const uint32_t *w = (const uint32_t *)page;
    uint32_t tag = r * MOST + p, now = g->version[p], whose = 0, which = 0;
    for (uint32_t t = 0; t < REGIONS * MOST && !which; t++)
        for (uint32_t v = 1; v <= step_now + 1 && !which; v++)
            if (holds(page, t, v)) whose = t, which = v;
    printf("FAIL region %u page %u at %p, step %u, file %d: version %u expected, begins %08x %08x (%08x), zero %d, as the file %d, holds page %u version %u\n",
           r, p, (const void *)page, step_now, g->file, now, w[0], w[1], tag * 2654435761u ^ now * 40503u, is_zero(page),
           holds(page, 1000000 + p, 7), whose, which);
    fflush(stdout);
    _exit(1);
}

static void check_all(void) {
    for (unsigned r = 0; r < REGIONS; r++)
        for (unsigned p = 0; p < all[r].pages; p++) check_page(r, p);
    for (unsigned p = 0; p < BESIDE; p++)
        if (!holds(still + (size_t)p * P, 2000000 + p, still_versions[p])) fail("beside", 0, p);
    for (unsigned p = 0; p < SHARED; p++)
        if (shared_versions[p] ? !holds(shared + (size_t)p * P, p, shared_versions[p]) : !is_zero(shared + (size_t)p * P))
            fail("shared", 0, p);
}

static void map_new(unsigned r) {
    struct region *g = &all[r];
    g->pages = 1 + roll(MOST);
    g->file = roll(4) == 0;
    memset(g->version, 0, sizeof g->version);
    g->at = mmap(NULL, (size_t)g->pages * P, PROT_READ | PROT_WRITE, g->file ? MAP_PRIVATE : MAP_PRIVATE | MAP_ANONYMOUS,
                 g->file ? file : -1, 0);
    if (g->at == MAP_FAILED) fail("mmap", r, 0);
}

static void write_still(unsigned p, uint32_t version) {
    fill(still + (size_t)p * P, 2000000 + p, version);
    still_versions[p] = version;
}

static void map_still(uint32_t version) {
    still = mmap(NULL, (size_t)(BESIDE + TAIL) * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (still == MAP_FAILED || mprotect(still + (size_t)BESIDE * P, TAIL * P, PROT_NONE)) fail("beside: mmap", 0, 0);
    for (unsigned p = 0; p < BESIDE; p++) write_still(p, version);
}

/* What is moved and what it comes to lie beside may become one mapping. Rarely: whoever follows what is written is to look in between. */
static void beside(uint32_t n) {
    write_still(n / 4 % BESIDE, n + 1);
    if (n % 1024 == 512) {
        if (munmap(still, (size_t)(BESIDE + TAIL) * P)) fail("beside: munmap all", 0, 0);
        map_still(n + 1);
    }
    if (n % 256) return;
    unsigned char *end = still + (size_t)BESIDE * P;
    /* Between pages that cannot be used it is a mapping of its own, and it is only read: it has no page of its own either. */
    unsigned char *fresh = mmap(NULL, (TAIL + 2) * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED || mprotect(fresh + P, TAIL * P, PROT_READ | PROT_WRITE)) fail("fresh", 0, 0);
    if (!is_zero(fresh + P)) fail("fresh page", 0, 0);
    if (mremap(fresh + P, TAIL * P, TAIL * P, MREMAP_MAYMOVE | MREMAP_FIXED, end) != end) fail("beside: mremap", 0, 0);
    if (munmap(fresh, P) || munmap(fresh + (TAIL + 1) * P, P)) fail("beside: munmap", 0, 0);
    mprotect(still, (size_t)BESIDE * P, PROT_READ);
    mprotect(still, (size_t)BESIDE * P, PROT_READ | PROT_WRITE);
}

static void step(uint32_t n) {
    step_now = n;
    unsigned r = roll(REGIONS);
    struct region *g = &all[r];
    unsigned p = roll(g->pages);
    uint32_t what = roll(16);
    if (what == 8 && !removes) what = 9;
    switch (what) {
    case 0:
        if (munmap(g->at, (size_t)g->pages * P)) fail("munmap", r, 0);
        map_new(r);
        break;
    case 1: { /* something else in the same place */
        g->file = roll(2);
        memset(g->version, 0, sizeof g->version);
        int flags = MAP_PRIVATE | MAP_FIXED | (g->file ? 0 : MAP_ANONYMOUS);
        if (mmap(g->at, (size_t)g->pages * P, PROT_READ | PROT_WRITE, flags, g->file ? file : -1, 0) != g->at)
            fail("mmap over", r, 0);
        break;
    }
    case 2: { /* moved, larger or smaller */
        if (g->file) break;
        unsigned pages = 1 + roll(MOST);
        void *to = mmap(NULL, (size_t)MOST * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (to == MAP_FAILED || munmap((char *)to + (size_t)pages * P, (size_t)(MOST - pages) * P)) {
            if (pages != MOST) fail("target", r, 0);
        }
        void *at = mremap(g->at, (size_t)g->pages * P, (size_t)pages * P, MREMAP_MAYMOVE | MREMAP_FIXED, to);
        if (at == MAP_FAILED) fail("mremap", r, 0);
        for (unsigned i = pages; i < MOST; i++) g->version[i] = 0;
        g->at = at;
        g->pages = pages;
        break;
    }
    case 3:
        if (madvise(g->at + (size_t)p * P, (size_t)(g->pages - p) * P, MADV_DONTNEED)) fail("madvise", r, p);
        for (unsigned i = p; i < g->pages; i++) g->version[i] = 0;
        break;
    case 4: /* read-only for a moment */
        mprotect(g->at, (size_t)g->pages * P, PROT_READ);
        check_page(r, p);
        mprotect(g->at, (size_t)g->pages * P, PROT_READ | PROT_WRITE);
        break;
    case 5: { /* a child writes what both see, and what only it sees */
        unsigned s = roll(SHARED);
        if (n % 8) break;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            fill(shared + (size_t)s * P, s, n + 1);
            shared_versions[s] = n + 1;
            fill(g->at + (size_t)p * P, 0xdead, n);
            usleep(2000);
            if (!holds(g->at + (size_t)p * P, 0xdead, n)) fail("child", r, p);
            g->version[p] = 0; /* not looked at here any more */
            g->pages = 0;
            check_all();
            _exit(0);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child || status) fail("child's end", r, p);
        break;
    }
    case 6: {
        unsigned s = roll(SHARED);
        fill(shared + (size_t)s * P, s, n + 1);
        shared_versions[s] = n + 1;
        break;
    }
    case 7:
        check_page(r, p);
        break;
    case 8: { /* shared memory is given back, and read at once */
        unsigned s = roll(SHARED);
        if (madvise(shared + (size_t)s * P, P, MADV_REMOVE)) fail("remove", 0, s);
        shared_versions[s] = 0;
        if (!is_zero(shared + (size_t)s * P)) fail("removed", 0, s);
        break;
    }
    default:
        fill(g->at + (size_t)p * P, r * MOST + p, n + 1);
        g->version[p] = n + 1;
    }
}

int main(int argc, char **argv) {
    unsigned long steps = argc > 1 ? strtoul(argv[1], NULL, 10) : 4000;
    useconds_t pause = argc > 2 ? (useconds_t)atoi(argv[2]) : 0;
    removes = argc < 4 || atoi(argv[3]);
    char name[] = "/tmp/ftl-churn-XXXXXX";
    file = mkstemp(name);
    if (file < 0) fail("file", 0, 0);
    unlink(name);
    unsigned char page[P];
    for (unsigned p = 0; p < MOST; p++) {
        fill(page, 1000000 + p, 7);
        if (write(file, page, P) != P) fail("write", 0, p);
    }
    shared = mmap(NULL, (size_t)SHARED * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared_versions = mmap(NULL, SHARED * sizeof(uint32_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || shared_versions == MAP_FAILED) fail("shared memory", 0, 0);
    for (unsigned r = 0; r < REGIONS; r++) map_new(r);
    map_still(1);
    for (unsigned long n = 0; n < steps; n++) {
        step((uint32_t)n);
        if (n % 4 == 0) beside((uint32_t)n);
        if (n % 64 == 0) check_all();
        if (n % 1000 == 999) {
            printf("ok %lu\n", n + 1);
            fflush(stdout);
        }
        if (pause) usleep(pause);
    }
    check_all();
    puts("done");
    return 0;
}
