// modes: static dynamic musl
// System calls inside code that was made at run time, in RWX memory, after mprotect, and from a mapped file.
#include "../common.h"

static const unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3}; /* mov $39,%eax; syscall; ret */
typedef int (*fn)(void);

int main(void) {
    int pid = getpid();
    unsigned char *m = mmap(NULL, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int wrong = 0;
    for (int i = 0; i < 500; i++) {
        memcpy(m + i * 100, code, sizeof code);
        for (int k = 0; k < 3; k++)
            wrong += ((fn)(m + i * 100))() != pid;
    }
    SHOW(wrong);
    memset(m, 0xc3, 65536);
    memcpy(m + 1000, code, sizeof code);
    wrong += ((fn)(m + 1000))() != pid;
    SHOW(wrong);
    MUST(mprotect(m, 65536, PROT_READ | PROT_WRITE) == 0);
    CHECK(memcmp(m + 1000, code, sizeof code) == 0 || m[1005] != 0x0f);
    memcpy(m + 1000, code, sizeof code);
    MUST(mprotect(m, 65536, PROT_READ | PROT_EXEC) == 0);
    wrong += ((fn)(m + 1000))() != pid;
    int fd = open("code", O_RDWR | O_CREAT, 0755);
    MUST(write(fd, code, sizeof code) == sizeof code && ftruncate(fd, 4096) == 0);
    for (int i = 0; i < 2; i++) {
        fn f = (fn)mmap(NULL, 4096, PROT_READ | PROT_EXEC, i ? MAP_SHARED : MAP_PRIVATE, fd, 0);
        for (int k = 0; k < 3; k++)
            wrong += f() != pid;
    }
    SHOW(wrong);
    unsigned char back[sizeof code];
    MUST(pread(fd, back, sizeof back, 0) == sizeof back);
    CHECK(memcmp(back, code, sizeof code) == 0); /* a file is never patched */
    pid_t p = fork();
    if (p == 0)
        child_exit(((fn)(m + 1000))() == getpid() ? 0 : 1);
    wait_show("child", p);
    return done();
}
