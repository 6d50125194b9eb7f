// modes: static static-pie dynamic nopie musl musl-dynamic
// The smallest thing that must work in every build.
#include <stdio.h>

int main(void) {
    puts("hello, world");
    return 0;
}
