// modes: static dynamic musl
// racy
// needs: threads
// Which thread and which process is first varies; everybody arrives once.
#include "../common.h"
#include <pthread.h>

static int order[8], n;
static void *body(void *p) {
    order[__atomic_fetch_add(&n, 1, __ATOMIC_SEQ_CST)] = (int)(long)p;
    return NULL;
}

int main(void) {
    pthread_t t[8];
    for (long i = 0; i < 8; i++)
        pthread_create(&t[i], NULL, body, (void *)i);
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
    int seen = 0, p[2], mask = 0;
    for (int i = 0; i < 8; i++) {
        printf("%d ", order[i]);
        seen |= 1 << order[i];
    }
    puts("");
    MUST(pipe(p) == 0);
    for (int i = 0; i < 8; i++)
        if (fork() == 0) {
            char c = (char)i;
            (void)!write(p[1], &c, 1);
            _exit(0);
        }
    for (int i = 0; i < 8; i++) {
        char c;
        MUST(read(p[0], &c, 1) == 1);
        printf("%d ", c);
        mask |= 1 << c;
    }
    puts("");
    while (wait(NULL) > 0)
        ;
    printf("invariant threads %x processes %x\n", seen, mask);
    return 0;
}
