// modes: static dynamic musl
// Machine code made at run time: RWX pages, W then X, many functions, code that is overwritten, calls between them.
#include "../common.h"

typedef int (*fn)(int);
static size_t emit(unsigned char *at, int add) { /* lea add(%rdi),%eax; ret */
    const unsigned char code[] = {0x8d, 0x87, 0, 0, 0, 0, 0xc3};
    memcpy(at, code, sizeof code);
    memcpy(at + 2, &add, 4);
    return sizeof code;
}

int main(void) {
    unsigned char *m = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(m != MAP_FAILED);
    int wrong = 0;
    for (int i = 0; i < 1000; i++) {
        emit(m + i * 16, i);
        wrong += ((fn)(m + i * 16))(1) != i + 1;
    }
    SHOW(wrong);
    for (int i = 0; i < 1000; i++) { /* the same place again and again */
        emit(m, i * 3);
        wrong += ((fn)m)(0) != i * 3;
    }
    SHOW(wrong);
    unsigned char *w = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 20; i++) {
        MUST(mprotect(w, 8192, PROT_READ | PROT_WRITE) == 0);
        emit(w + 4093, i); /* across a page's end */
        MUST(mprotect(w, 8192, PROT_READ | PROT_EXEC) == 0);
        wrong += ((fn)(w + 4093))(5) != i + 5;
    }
    SHOW(wrong);
    int fd = open("code", O_RDWR | O_CREAT, 0755);
    unsigned char page[4096] = {0};
    emit(page, 77);
    MUST(write(fd, page, 4096) == 4096);
    fn f = (fn)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    CHECK(f(1) == 78);
    unsigned char *sw = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    fn sx = (fn)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    emit(sw, 99); /* two views of one page */
    CHECK(sx(1) == 100);
    no_core();
    pid_t p = fork();
    if (p == 0) {
        mprotect(w, 8192, PROT_READ);
        ((fn)(w))(1);
        _exit(0);
    }
    wait_show("execution of a page that is not executable", p);
    return done();
}
