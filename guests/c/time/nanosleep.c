// modes: static dynamic musl
// nanosleep and clock_nanosleep: at least as long as asked, absolute and relative, remaining time, errors.
#include "../common.h"

static void handler(int s) { (void)s; }

int main(void) {
    struct timespec t = {0, 3000000}, left = {0, 0};
    int64_t start = now_ns(CLOCK_MONOTONIC);
    SHOW(nanosleep(&t, NULL));
    CHECK(now_ns(CLOCK_MONOTONIC) - start >= 3000000);
    const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    for (int i = 0; i < 3; i++) {
        start = now_ns(clocks[i]);
        SHOWE(clock_nanosleep(clocks[i], 0, &t, NULL));
        CHECK(now_ns(clocks[i]) - start >= 3000000);
        int64_t until = now_ns(clocks[i]) + 2000000;
        struct timespec at = {until / 1000000000, until % 1000000000};
        SHOWE(clock_nanosleep(clocks[i], TIMER_ABSTIME, &at, NULL));
        CHECK(now_ns(clocks[i]) >= until);
        at.tv_sec -= 5;
        SHOWE(clock_nanosleep(clocks[i], TIMER_ABSTIME, &at, NULL));
    }
    struct sigaction a = {.sa_handler = handler};
    sigaction(SIGALRM, &a, NULL);
    struct itimerval it = {{0, 5000}, {0, 5000}}, off = {{0, 0}, {0, 0}}; /* again, should one come before the call waits */
    t = (struct timespec){1000, 0};
    setitimer(ITIMER_REAL, &it, NULL);
    SHOW(nanosleep(&t, &left));
    setitimer(ITIMER_REAL, &off, NULL);
    CHECK(left.tv_sec >= 800 && left.tv_sec < 1000 && left.tv_nsec > 0);
    left.tv_sec = 7;
    t.tv_sec += now_ns(CLOCK_MONOTONIC) / 1000000000;
    setitimer(ITIMER_REAL, &it, NULL);
    SHOWE(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, &left));
    setitimer(ITIMER_REAL, &off, NULL);
    CHECK(left.tv_sec == 7); /* absolute sleeps have no remainder */
    t = (struct timespec){0, 1000000000};
    SHOW(nanosleep(&t, NULL));
    t = (struct timespec){-1, 0};
    SHOW(nanosleep(&t, NULL));
    SHOW(syscall(SYS_nanosleep, BAD, NULL));
    SHOWE(clock_nanosleep(99, 0, &t, NULL));
    t = (struct timespec){0, 0};
    SHOW(nanosleep(&t, NULL));
    SHOWE(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL));
    SHOW(usleep(1000));
    SHOW(sleep(0));
    return done();
}
