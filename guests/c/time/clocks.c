// modes: static dynamic musl
// Every clock: it advances, does not go back, has a resolution; the errors of clock_gettime, getres and settime.
#include "../common.h"

int main(void) {
    const struct { const char *name; clockid_t id; } clocks[] = {
        {"REALTIME", 0}, {"MONOTONIC", 1}, {"PROCESS_CPUTIME", 2}, {"THREAD_CPUTIME", 3}, {"MONOTONIC_RAW", 4},
        {"REALTIME_COARSE", 5}, {"MONOTONIC_COARSE", 6}, {"BOOTTIME", 7}, {"TAI", 11}};
    for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        struct timespec t, r;
        int good = clock_gettime(clocks[i].id, &t) == 0 && clock_getres(clocks[i].id, &r) == 0;
        int64_t last = 0;
        for (int k = 0; k < 2000; k++) {
            int64_t now = now_ns(clocks[i].id);
            good &= now >= last;
            last = now;
        }
        good &= t.tv_nsec >= 0 && t.tv_nsec < 1000000000 && r.tv_sec == 0 && r.tv_nsec >= 1 && r.tv_nsec <= 10000000;
        printf("%s %s\n", clocks[i].name, good ? "ok" : "FAIL");
        common_failed |= !good;
    }
    int64_t mono = now_ns(CLOCK_MONOTONIC), real = now_ns(CLOCK_REALTIME);
    sleep_ms(5);
    CHECK(now_ns(CLOCK_MONOTONIC) - mono >= 5000000);
    CHECK(now_ns(CLOCK_REALTIME) - real >= 4900000);
    CHECK(now_ns(CLOCK_BOOTTIME) >= now_ns(CLOCK_MONOTONIC) - 1000000000LL);
    struct timespec t;
    SHOW(clock_gettime(99, &t));
    SHOW(clock_getres(99, &t));
    SHOW(syscall(SYS_clock_getres, 0, NULL));
    SHOW(syscall(SYS_clock_gettime, 0, BAD));
    SHOW(syscall(SYS_clock_gettime, 10, &t));
    clockid_t c;
    SHOWE(clock_getcpuclockid(0, &c));
    SHOW(clock_gettime(c, &t));

    SHOW(clock_gettime((~999999999U << 3) | 2, &t));
    /* Between two others, as a snapshot there moves the time of day on; time() has that of the last tick. */
    struct timeval tv;
    time_t before = time(NULL);
    SHOW(gettimeofday(&tv, NULL));
    CHECK(before <= tv.tv_sec && tv.tv_sec <= time(NULL) + 1);
    time_t now;
    CHECK(time(&now) == now);
    time_t called = syscall(SYS_time, NULL);
    CHECK(now <= called && called <= time(NULL));
    SHOW(clock_settime(CLOCK_MONOTONIC, &t));
    return done();
}
