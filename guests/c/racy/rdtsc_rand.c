// modes: static dynamic musl
// racy
// Time stamps and, where there is one, the hardware random generator as inputs.
#include "../common.h"
#include <cpuid.h>
#include <x86intrin.h>

__attribute__((target("rdrnd"))) static int hardware(unsigned long long *v) { return _rdrand64_step(v); }

int main(void) {
    unsigned a, b, c = 0, d;
    __get_cpuid(1, &a, &b, &c, &d);
    unsigned long long v[4] = {0}, stamp = __rdtsc();
    int good = 1;
    if (c & bit_RDRND)
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 100 && !hardware(&v[i]); k++)
                ;
    good = !(c & bit_RDRND) || (v[0] != v[1] && v[1] != v[2]);
    printf("stamp %llu random %llx\n", stamp, v[0]);
    printf("invariant %d\n", good && __rdtsc() >= stamp);
    return 0;
}
