// modes: static dynamic musl
// exit: 7
// The value that main returns is the exit code.
#include "../common.h"

int main(void) {
    puts("returning 7");
    return 7;
}
