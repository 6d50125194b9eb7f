#include "h.h"
#include <stdio.h>
int main(void) {
    int total = 0;
    for (int i = 0; i < N; i++)
        total += twist(i);
    printf("%d %.6f\n", total, root(total));
    return 0;
}
