#include "h.h"
#include <math.h>
#include <stdlib.h>
int twist(int x) { return (x * 2654435761u) >> 20; }
double root(double x) { return sqrt(fabs(x)); }
