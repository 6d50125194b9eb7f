// modes: static dynamic musl
// clone3: a child by it, its errors; ENOSYS is fine, libc falls back.
#include "../common.h"

struct args { uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup; };

static int result(struct args *a, size_t size) {
    long r = syscall(435, a, size);
    if (r == 0)
        _exit(6);
    if (r > 0) {
        int st;
        MUST(waitpid((pid_t)r, &st, 0) == r);
        return WEXITSTATUS(st);
    }
    return -errno;
}

int main(void) {
    struct args a = {.exit_signal = SIGCHLD};
    int r = result(&a, sizeof a);
    if (r == -ENOSYS) { /* a stated choice of a kernel: then the answer is always the same */
        CHECK(result(&a, 64) == -ENOSYS && result(NULL, 0) == -ENOSYS);
        puts("invariant");
        return done();
    }
    CHECK(r == 6);
    CHECK(result(&a, 64) == 6);
    CHECK(result(&a, 8) == -EINVAL);
    CHECK(result(BAD, sizeof a) == -EFAULT);
    CHECK(result(&a, 10000) == -E2BIG);
    a.stack = 4096;
    CHECK(result(&a, sizeof a) == -EINVAL);
    a.stack = 0;
    a.exit_signal = 999;
    CHECK(result(&a, sizeof a) == -EINVAL);
    puts("invariant");
    return done();
}
