// modes: static dynamic musl
// Writes of up to PIPE_BUF from several processes never mix; a blocked big write ends whole.
#include "../common.h"

int main(void) {
    int p[2];
    MUST(pipe(p) == 0);
    for (int k = 0; k < 4; k++)
        if (fork() == 0) {
            char block[512];
            memset(block, 'a' + k, sizeof block);
            for (int i = 0; i < 100; i++)
                MUST(write(p[1], block, sizeof block) == sizeof block);
            _exit(0);
        }
    close(p[1]);
    char block[512];
    int count[4] = {0}, mixed = 0;
    for (;;) {
        size_t have = 0;
        ssize_t n;
        while (have < 512 && (n = read(p[0], block + have, 512 - have)) > 0)
            have += n;
        if (have == 0)
            break;
        for (int i = 1; i < 512; i++)
            mixed += block[i] != block[0];
        count[block[0] - 'a']++;
    }
    printf("%d %d %d %d mixed %d\n", count[0], count[1], count[2], count[3], mixed);
    while (wait(NULL) > 0)
        ;
    MUST(pipe(p) == 0);
    pid_t c = fork();
    if (c == 0) {
        static char big[1 << 20];
        _exit(write(p[1], big, sizeof big) == sizeof big ? 0 : 1);
    }
    close(p[1]);
    long total = 0;
    ssize_t n;
    static char buf[3000];
    while ((n = read(p[0], buf, sizeof buf)) > 0)
        total += n;
    SHOW(total);
    wait_show("writer", c);
    return done();
}
