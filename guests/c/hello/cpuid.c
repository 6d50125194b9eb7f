// modes: static dynamic musl
// cpuid, rdtsc and rdtscp run in user code; time stamps do not go back.
#include "../common.h"
#include <cpuid.h>
#include <x86intrin.h>

int main(void) {
    unsigned a, b, c, d;
    MUST(__get_cpuid(0, &a, &b, &c, &d));
    CHECK(a >= 7);
    MUST(__get_cpuid(1, &a, &b, &c, &d));
    CHECK(d & bit_SSE2);
    CHECK(d & bit_FXSAVE);
    CHECK(c & bit_SSE4_2);
    CHECK(c & bit_CMPXCHG16B);
    unsigned long long last = __rdtsc();
    unsigned aux;
    for (int i = 0; i < 10000; i++) {
        unsigned long long now = i % 2 ? __rdtsc() : __rdtscp(&aux);
        MUST(now >= last);
        last = now;
    }
    puts("time stamps are monotone");
    unsigned long long t0 = __rdtsc();
    sleep_ms(2);
    CHECK(__rdtsc() > t0);
    return done();
}
