// modes: static dynamic musl
// needs: threads
// getrusage, times, clock and CPU clocks: computing counts, sleeping does not, children are added when reaped.
#include "../common.h"
#include <sys/times.h>

static void burn(void) {
    int64_t until = now_ns(CLOCK_PROCESS_CPUTIME_ID) + 30000000;
    while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < until)
        ;
}

int main(void) {
    struct rusage u, v;
    struct tms t;
    SHOW(getrusage(RUSAGE_SELF, &u));
    int64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID), thread = now_ns(CLOCK_THREAD_CPUTIME_ID);
    clock_t c = clock();
    burn();
    CHECK(now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu >= 30000000);
    CHECK(now_ns(CLOCK_THREAD_CPUTIME_ID) - thread >= 20000000);
    CHECK(clock() - c >= 20000);
    SHOW(getrusage(RUSAGE_SELF, &v));
    int64_t used = (v.ru_utime.tv_sec - u.ru_utime.tv_sec) * 1000000LL + v.ru_utime.tv_usec - u.ru_utime.tv_usec +
                   (v.ru_stime.tv_sec - u.ru_stime.tv_sec) * 1000000LL + v.ru_stime.tv_usec - u.ru_stime.tv_usec;
    CHECK(used >= 10000 && used < 60000000);
    CHECK(v.ru_maxrss > 0);
    SHOW(getrusage(RUSAGE_THREAD, &v));
    SHOW(getrusage(RUSAGE_CHILDREN, &v));
    CHECK(v.ru_utime.tv_sec == 0 && v.ru_utime.tv_usec == 0);
    /* Around the sleep a few calls are counted, which take long where a machine gives its CPU to others while it runs us: once is enough. */
    int64_t least = INT64_MAX;
    for (int i = 0; i < 100 && least >= 19000000; i++) {
        cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
        sleep_ms(20);
        cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        least = cpu < least ? cpu : least;
    }
    CHECK(least < 19000000);
    pid_t p = fork();
    if (p == 0) {
        burn();
        _exit(0);
    }
    struct rusage w;
    MUST(wait4(p, NULL, 0, &w) == p);
    CHECK(w.ru_utime.tv_sec * 1000000LL + w.ru_utime.tv_usec + w.ru_stime.tv_sec * 1000000LL + w.ru_stime.tv_usec >= 10000);
    SHOW(getrusage(RUSAGE_CHILDREN, &v));
    CHECK(v.ru_utime.tv_usec + v.ru_stime.tv_usec + v.ru_utime.tv_sec * 1000000 >= 10000);
    CHECK(times(&t) != (clock_t)-1 && t.tms_cutime + t.tms_cstime >= 1);
    SHOW(getrusage(99, &u));
    return done();
}
