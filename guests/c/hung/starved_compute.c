// modes: static dynamic musl
// needs: threads
// timeout: 90
// A thread computes without a call (a JIT's hot loop) while another (its compiler) must get on; the first waits for the second's result.
#include "../common.h"
#include <pthread.h>

static int (*volatile code)(int);
static int slow(int x) { return x * 3 + 1; }
static int fast(int x) { return x * 3 + 1; }
static volatile int heart;
static void *compiler(void *p) {
    (void)p;
    volatile unsigned work = 1;
    for (int i = 0; i < 3000000; i++)
        work = work * 5 + 1;
    code = fast;
    return NULL;
}
static void *beat(void *p) {
    (void)p;
    for (int i = 0; i < 10; i++) {
        sleep_ms(1);
        heart++;
    }
    return NULL;
}

int main(void) {
    code = slow;
    pthread_t t, u;
    pthread_create(&t, NULL, compiler, NULL);
    pthread_create(&u, NULL, beat, NULL);
    unsigned x = 1;
    while (code == slow)
        x = (unsigned)code((int)x);
    while (heart < 10) /* a sleeper is not starved either */
        x = (unsigned)code((int)x);
    printf("the loop saw its new code: %d\n", code == fast);
    pthread_join(t, NULL);
    pthread_join(u, NULL);
    return 0;
}
