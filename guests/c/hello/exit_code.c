// modes: static dynamic musl
// exit: 42
// exit() with a code; the kernel keeps eight bits of it.
#include "../common.h"

int main(void) {
    for (int code = -1; code <= 513; code += 257) {
        pid_t p = fork();
        if (p == 0)
            exit(code);
        printf("%d: ", code);
        wait_show("child", p);
    }
    exit(42 + 256);
}
