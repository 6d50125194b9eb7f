// modes: static dynamic musl
// racy
// Work bounded by the clock: how much is done varies, that it is done does not.
#include "../common.h"

int main(void) {
    int64_t until = now_ns(CLOCK_MONOTONIC) + 10000000, n = 0;
    do
        n++;
    while (now_ns(CLOCK_MONOTONIC) < until);
    printf("%ld reads at %ld\n", (long)n, (long)now_ns(CLOCK_REALTIME));
    printf("invariant %d\n", n > 0);
    return 0;
}
