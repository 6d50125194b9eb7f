// modes: static dynamic musl
// A stop and SIGCONT in the middle of waits: a sleep ends at its old time, read goes on, epoll_wait says EINTR.
#include "../common.h"
#include <sys/epoll.h>
#include <sys/syscall.h>

/* Set by a child right before it waits. */
static volatile int *about;

static void stop_and_go(pid_t p) {
    int st;
    await_state(about, p, p, "S");
    *about = 0;
    kill(p, SIGSTOP);
    MUST(waitpid(p, &st, WUNTRACED) == p && WIFSTOPPED(st));
    sleep_ms(30);
    kill(p, SIGCONT);
    /* not waited for: an interrupted child may have ended by then */
}

int main(void) {
    int p[2];
    MUST(pipe(p) == 0);
    about = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t c = fork();
    if (c == 0) {
        int64_t from = now_ns(CLOCK_MONOTONIC);
        struct timespec t = {3, 0}, rem = {7, 7}; /* time enough to stop it, on a busy machine too */
        *about = 1;
        SHOW(nanosleep(&t, &rem));
        int64_t took = now_ns(CLOCK_MONOTONIC) - from;
        CHECK(took >= 3000000000);
        CHECK(took < 30000000000); /* slack for a busy machine */
        child_exit(0);
    }
    stop_and_go(c);
    wait_show("sleeper", c);
    c = fork();
    if (c == 0) {
        char b;
        *about = 1;
        SHOW(read(p[0], &b, 1));
        child_exit(0);
    }
    stop_and_go(c);
    MUST(write(p[1], "x", 1) == 1);
    wait_show("reader", c);
    c = fork();
    if (c == 0) {
        struct epoll_event e;
        int ep = epoll_create1(0);
        *about = 1;
        SHOW(epoll_wait(ep, &e, 1, -1));
        child_exit(0);
    }
    stop_and_go(c);
    wait_show("poller", c);
    c = fork();
    if (c == 0) {
        sigset_t s;
        sigemptyset(&s);
        *about = 1;
        /* musl's sigtimedwait begins anew behind EINTR */
        SHOW(syscall(SYS_rt_sigtimedwait, &s, NULL, &(struct timespec){1000, 0}, 8));
        child_exit(0);
    }
    stop_and_go(c);
    wait_show("sigwaiter", c);
    return done();
}
