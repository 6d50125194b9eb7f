#define N 1000
int twist(int);
double root(double);
