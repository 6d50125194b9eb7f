// modes: static static-pie dynamic nopie musl
// Constructors run by priority, before main, and see argv and the environment.
#include "../common.h"

static int order;
__attribute__((constructor(201))) static void c201(void) { printf("constructor 201 is number %d\n", order++); }
__attribute__((constructor(200))) static void c200(void) { printf("constructor 200 is number %d\n", order++); }
__attribute__((constructor)) static void last(void) { printf("default is number %d\n", order++); }

int main(void) {
    CHECK(order == 3);
    CHECK(getenv("FTL_GUEST") != NULL);
    return done();
}
