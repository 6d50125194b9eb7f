// modes: static dynamic musl
// Printing, parsing and computing of floating point; rounding modes and exception flags.
#include "../common.h"
#include <fenv.h>
#include <math.h>

int main(void) {
    volatile double third = 1.0 / 3.0, tiny = 5e-324, big = 1.7976931348623157e308, zero = 0;
    printf("%.17g %a %.17g %.17g\n", third, third, tiny, big);
    printf("%g %g %g\n", 1 / zero, -1 / zero, fabs(zero / zero));
    printf("%.20Lf\n", 1.0L / 3);
    printf("%.15g %.15g %.15g\n", sin(1), exp(1), sqrt(2));
    printf("%.17g %.17g\n", strtod("0.1", NULL), strtod("0x1.8p3", NULL));
    printf("%d %d\n", fegetround() == FE_TONEAREST, fetestexcept(FE_ALL_EXCEPT) != 0);
    fesetround(FE_UPWARD);
    volatile double up = 1 / (third * 9);
    fesetround(FE_DOWNWARD);
    volatile double down = 1 / (third * 9);
    fesetround(FE_TONEAREST);
    printf("%a %a\n", up, down);
    feclearexcept(FE_ALL_EXCEPT);
    volatile double inexact = third + 1e-30;
    printf("%d %.17g\n", fetestexcept(FE_INEXACT) != 0, inexact);
    printf("%ld %ld %lld\n", lrint(2.5), lrint(3.5), llround(-2.5));
    printf("%e %G %#x %o %5d|%-5d|%05d\n", 12345.678, 1e-10, 255, 8, 42, 42, 42);
    return 0;
}
