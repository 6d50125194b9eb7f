// modes: static dynamic musl
// Handlers run in reverse order, the one registered by a handler too; destructors come after them.
#include "../common.h"

static void a(void) { puts("a"); }
static void b(void) { puts("b"); }
static void c(void) {
    puts("c registers a");
    atexit(a);
}
__attribute__((destructor(101))) static void d1(void) { puts("destructor 101"); }
__attribute__((destructor(102))) static void d2(void) { puts("destructor 102"); }

int main(void) {
    atexit(a);
    atexit(b);
    atexit(c);
    puts("main ends");
    return 0;
}
