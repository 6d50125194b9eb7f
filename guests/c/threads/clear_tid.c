// modes: static dynamic musl
// needs: threads
// set_tid_address and CLONE_CHILD_CLEARTID: the word is cleared and woken when the thread ends.
#include "../common.h"
#include "../futex.h"
#include <sched.h>

static int *word;
static int body(void *p) {
    (void)p;
    return 0;
}

int main(void) {
    word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *word = 1;
    pid_t p = clone(body, stack + 65536, CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, NULL, NULL, NULL, word);
    while (*word)
        futex(word, FUTEX_WAIT, 1, NULL, NULL, 0);
    wait_show("clone in the same memory", p);
    /* only cleared when others can see the memory */
    p = fork();
    if (p == 0) {
        *word = 5;
        MUST(syscall(SYS_set_tid_address, word) == getpid());
        _exit(0);
    }
    wait_show("child", p);
    SHOW(*word);
    pid_t parent_tid = 0;
    p = clone(body, stack + 65536, CLONE_PARENT_SETTID | CLONE_VM | CLONE_VFORK | SIGCHLD, NULL, &parent_tid, NULL, NULL);
    CHECK(parent_tid == p);
    wait_show("CLONE_VM", p);
    SHOW(clone(body, stack + 65536, CLONE_THREAD, NULL));
    SHOW(clone(body, stack + 65536, CLONE_SIGHAND, NULL));
    SHOW(clone(body, stack + 65536, CLONE_FS | CLONE_NEWNS, NULL));
    return done();
}
