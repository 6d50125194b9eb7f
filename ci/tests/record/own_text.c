// Looks at its own text through system calls, in which a debugger's breakpoints must not show.
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LENGTH = 64 };
static int held;

__attribute__((noinline)) static unsigned hit(const unsigned char *b) {
    unsigned sum = 0;
    for (int i = 0; i < LENGTH; i++)
        sum = sum * 31 + b[i];
    return sum;
}

// By way of a file: the kernel reads the text, the program its copy.
static unsigned through_a_file(void) {
    unsigned char copy[LENGTH] = {0};
    if (pwrite(held, (const void *)hit, LENGTH, 0) != LENGTH || pread(held, copy, LENGTH, 0) != LENGTH)
        return 0;
    return hit(copy);
}

int main(void) {
    held = memfd_create("held", 0);
    for (int i = 0; i < 3; i++) {
        // Calls in between that look at nothing.
        for (int k = 0; k < 500; k++)
            syscall(SYS_getppid);
        printf("%x\n", through_a_file());
        fflush(stdout);
    }
    // The text itself is an output, which a replay compares.
    syscall(SYS_getppid);
    write(1, (const void *)hit, LENGTH);
    // A child has it too.
    syscall(SYS_getppid);
    if (fork() == 0) {
        printf("\n%x\n", hit((const unsigned char *)hit));
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    // And it can be given up.
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, (const void *)hit, LENGTH);
    syscall(SYS_getppid);
    return munmap(page, 4096) != 0;
}
