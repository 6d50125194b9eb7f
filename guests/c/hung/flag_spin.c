// modes: static dynamic musl
// needs: threads
// timeout: 90
// A thread spins on a flag, with no call and no pause, that another thread sets.
#include "../common.h"
#include <pthread.h>

static volatile int flag, back;
static void *setter(void *p) {
    (void)p;
    flag = 1;
    while (!back)
        ;
    flag = 2;
    return NULL;
}

int main(void) {
    pthread_t t;
    for (int i = 0; i < 5; i++) {
        flag = back = 0;
        pthread_create(&t, NULL, setter, NULL);
        while (flag != 1)
            ;
        back = 1;
        while (flag != 2)
            ;
        pthread_join(t, NULL);
    }
    puts("five hand-overs by bare spinning");
    return 0;
}
