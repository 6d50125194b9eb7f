// modes: static dynamic musl
// stdin: \n\n\n
// held
// timeout: 90
// Cuts while threads do nothing but write machine code and run it: in place, write or execute by turns, through two views of one page, in a
// mapping that is made anew, with system calls in it. One is inside its code at the cut, and finds its next part rewritten behind it.
#include "../held.h"
#include <pthread.h>

typedef long (*fn)(long);
enum { PAGE = 4096, WORKERS = 5 };
static volatile int stop;
static volatile long rounds[WORKERS];
static int wrong;

static void expect(long got, long want) {
    if (got != want)
        __atomic_fetch_add(&wrong, 1, __ATOMIC_SEQ_CST);
}
static void emit(unsigned char *at, int add) {
    const unsigned char code[] = {0x48, 0x8d, 0x87, 0, 0, 0, 0, 0xc3}; /* lea add(%rdi),%rax; ret */
    memcpy(at, code, sizeof code);
    memcpy(at + 3, &add, 4);
}
static void emit_call(unsigned char *at, int number) {
    const unsigned char code[] = {0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0x90, 0x90, 0xc3}; /* mov number,%eax; syscall; nop; nop; ret */
    memcpy(at, code, sizeof code);
    memcpy(at + 1, &number, 4);
}
static unsigned char *map(int prot, int flags, int fd) {
    unsigned char *m = mmap(NULL, 2 * PAGE, prot, flags, fd, 0);
    MUST(m != MAP_FAILED);
    return m;
}
enum { RWX = PROT_READ | PROT_WRITE | PROT_EXEC, OWN = MAP_PRIVATE | MAP_ANONYMOUS };

static void *in_place(void *arg) {
    unsigned char *m = map(RWX, OWN, -1);
    for (int i = 0; !stop; i++, rounds[(long)arg]++)
        for (int k = 0; k < 100; k++) {
            unsigned char *at = m + k * 80;
            emit(at, i + k);
            expect(((fn)at)(k), i + 2 * k);
        }
    return NULL;
}
static void *by_turns(void *arg) {
    unsigned char *m = map(PROT_READ, OWN, -1);
    for (int i = 0; !stop; i++, rounds[(long)arg]++) {
        MUST(mprotect(m, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
        emit(m + PAGE - 4, i); /* across a page's end */
        MUST(mprotect(m, 2 * PAGE, PROT_READ | PROT_EXEC) == 0);
        for (int k = 0; k < 100; k++)
            expect(((fn)(m + PAGE - 4))(k), i + k);
    }
    return NULL;
}
static void *two_views(void *arg) {
    int fd = memfd_create("code", MFD_CLOEXEC);
    MUST(fd >= 0 && ftruncate(fd, 2 * PAGE) == 0);
    unsigned char *w = map(PROT_READ | PROT_WRITE, MAP_SHARED, fd), *x = map(PROT_READ | PROT_EXEC, MAP_SHARED, fd);
    for (int i = 0; !stop; i++, rounds[(long)arg]++)
        for (int k = 0; k < 100; k++) {
            emit(w + k * 80, i * k);
            expect(((fn)(x + k * 80))(i), i * k + i);
        }
    return NULL;
}
static void *made_anew(void *arg) {
    unsigned char *m = map(PROT_NONE, OWN, -1);
    for (int i = 0; !stop; i++, rounds[(long)arg]++) {
        MUST(mmap(m, PAGE, RWX, OWN | MAP_FIXED, -1, 0) == m);
        expect(m[i % PAGE], 0);
        emit(m + i % 4000, i);
        for (int k = 0; k < 100; k++)
            expect(((fn)(m + i % 4000))(k), i + k);
        MUST(madvise(m, PAGE, MADV_DONTNEED) == 0 && m[i % 4000] == 0);
    }
    return NULL;
}
static void *calls(void *arg) {
    unsigned char *m = map(RWX, OWN, -1);
    long pid = getpid(), ppid = getppid();
    emit_call(m, SYS_getpid);
    for (int i = 0; !stop; i++, rounds[(long)arg]++) {
        int odd = i % 2, number = odd ? SYS_getpid : SYS_getppid;
        for (int k = 0; k < 20; k++)
            expect(((fn)m)(0), odd ? ppid : pid);
        if (i % 20 < 10)
            memcpy(m + 1, &number, 4);
        else
            emit_call(m, number);
    }
    return NULL;
}

/* Spins on a word, then goes on where a second word says. Neither makes a call. */
static const unsigned char spin[] = {
    0x8b, 0x07,       /* again: mov (%rdi),%eax */
    0x85, 0xc0,       /* test %eax,%eax */
    0x74, 0xfa,       /* jz again */
    0x48, 0x89, 0xf7, /* mov %rsi,%rdi */
    0xff, 0x22,       /* jmp *(%rdx) */
};
static struct { volatile int inside, go; int by_turns; unsigned char *code; fn next; long got; } s;
static void *spins(void *arg) {
    (void)arg;
    s.inside = 1;
    s.got = ((long (*)(volatile int *, long, fn *))s.code)(&s.go, 1000, &s.next);
    return NULL;
}
static void *(*const kinds[WORKERS])(void *) = {in_place, by_turns, two_views, made_anew, calls};

int main(void) {
    pthread_t t[WORKERS], spinner;
    for (long k = 0; k < WORKERS; k++)
        MUST(pthread_create(&t[k], NULL, kinds[k], (void *)k) == 0);
    for (int round = 0; round < 3; round++) {
        s.by_turns = round == 1;
        s.inside = s.go = 0;
        unsigned char *m = map(s.by_turns ? PROT_READ | PROT_WRITE : RWX, OWN, -1), *n = map(s.by_turns ? PROT_READ | PROT_WRITE : RWX, OWN, -1);
        memcpy(m + 100, spin, sizeof spin);
        emit(n, 1);
        if (s.by_turns)
            MUST(mprotect(m, 2 * PAGE, PROT_READ | PROT_EXEC) == 0 && mprotect(n, 2 * PAGE, PROT_READ | PROT_EXEC) == 0);
        s.code = m + 100;
        s.next = (fn)n;
        SHOW(((fn)n)(1));
        MUST(pthread_create(&spinner, NULL, spins, NULL) == 0);
        while (!s.inside)
            sleep_ms(1);
        for (int k = 0; k < WORKERS; k++)
            for (long then = rounds[k]; rounds[k] < then + 3;)
                sleep_ms(1);
        held("in code made at run time");
        SHOW(s.got);
        if (s.by_turns)
            MUST(mprotect(n, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
        emit(n, 7);
        if (s.by_turns)
            MUST(mprotect(n, 2 * PAGE, PROT_READ | PROT_EXEC) == 0);
        s.go = 1;
        pthread_join(spinner, NULL);
        SHOW(s.got);
        s.got = 0;
        SHOW(wrong);
    }
    stop = 1;
    for (int k = 0; k < WORKERS; k++)
        pthread_join(t[k], NULL);
    SHOW(wrong);
    return done();
}
