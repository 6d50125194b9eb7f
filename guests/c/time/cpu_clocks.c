// modes: static dynamic musl
// needs: threads
// CPU-time clocks of processes and threads, timers and sleeps on them.
#include "../common.h"
#include <pthread.h>

static volatile bool stop;
static volatile sig_atomic_t hits;
static void handler(int s) { (void)s, hits++; }
static void burn(int ms) {
    int64_t until = now_ns(CLOCK_THREAD_CPUTIME_ID) + ms * 1000000LL;
    while (now_ns(CLOCK_THREAD_CPUTIME_ID) < until)
        ;
}
// Linux looks at these timers at its ticks, and a host that is busy elsewhere drops some: until they have come.
static void burn_until(int n) {
    for (int i = 0; i < 200 && hits < n; i++)
        burn(10);
}
static void *spin(void *p) {
    while (!stop)
        ;
    return p;
}

int main(void) {
    clockid_t mine, self, thread;
    SHOWE(clock_getcpuclockid(getpid(), &mine));
    SHOWE(pthread_getcpuclockid(pthread_self(), &self));
    int64_t p0 = now_ns(mine), t0 = now_ns(self);
    burn(30);
    CHECK(now_ns(mine) - p0 >= 30000000);
    CHECK(now_ns(self) - t0 >= 30000000);
    /* Around the sleep a few calls are counted, which take long where a machine gives its CPU to others while it runs us: once is enough. */
    int64_t least = INT64_MAX;
    for (int i = 0; i < 40 && least >= 40000000; i++) {
        int64_t s0 = now_ns(self);
        sleep_ms(50);
        s0 = now_ns(self) - s0;
        least = s0 < least ? s0 : least;
    }
    CHECK(least < 40000000);
    pthread_t t;
    pthread_create(&t, NULL, spin, NULL);
    SHOWE(pthread_getcpuclockid(t, &thread));
    int64_t x0 = now_ns(thread);
    do /* it spins as soon as it gets a CPU */
        sleep_ms(60);
    while (now_ns(thread) <= x0);
    CHECK(now_ns(thread) > x0);
    struct timespec ts = {0, 20000000};
    p0 = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    SHOWE(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &ts, NULL));
    CHECK(now_ns(CLOCK_PROCESS_CPUTIME_ID) - p0 >= 20000000);
    stop = true;
    pthread_join(t, NULL);
    SHOWE(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &ts, NULL));
    signal(SIGALRM, handler);
    timer_t timer;
    SHOW(timer_create(CLOCK_PROCESS_CPUTIME_ID, NULL, &timer));
    struct itimerspec it = {{0, 5000000}, {0, 5000000}}, got;
    SHOW(timer_settime(timer, 0, &it, NULL));
    burn_until(2);
    CHECK(hits >= 2);
    SHOW(timer_gettime(timer, &got));
    CHECK(got.it_interval.tv_nsec == 5000000 && got.it_value.tv_nsec > 0);
    /* The sleep adds nothing; the calls around it may, as above. */
    int before = hits;
    p0 = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    sleep_ms(60);
    p0 = now_ns(CLOCK_PROCESS_CPUTIME_ID) - p0;
    CHECK(hits <= before + 2 + p0 / 5000000);
    SHOW(timer_delete(timer));
    signal(SIGPROF, handler);
    hits = 0;
    struct itimerval iv = {{0, 5000}, {0, 5000}};
    SHOW(setitimer(ITIMER_PROF, &iv, NULL));
    burn_until(2);
    CHECK(hits >= 2);
    SHOW(clock_gettime((clockid_t)(~0x3fffff << 3 | 2), &ts));
    SHOW(clock_gettime(63, &ts));
    SHOW(clock_getres(mine, &ts));
    return done();
}
