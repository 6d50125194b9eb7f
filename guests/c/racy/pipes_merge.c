// modes: static dynamic musl
// racy
// Ten writers into one pipe and one file opened for appending: any order, nothing lost, nothing torn.
#include "../common.h"

int main(void) {
    int p[2], fd = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644);
    MUST(pipe(p) == 0);
    for (int k = 0; k < 10; k++)
        if (fork() == 0) {
            char line[32];
            for (int i = 0; i < 100; i++) {
                int n = snprintf(line, sizeof line, "%d:%03d\n", k, i);
                MUST(write(p[1], line, n) == n && write(fd, line, n) == n);
            }
            _exit(0);
        }
    close(p[1]);
    FILE *f[2] = {fdopen(p[0], "r"), NULL};
    long lines[2] = {0}, sum[2] = {0}, unordered = 0;
    for (int which = 0; which < 2; which++) {
        int last[10], k, i;
        unsigned order = 0;
        memset(last, -1, sizeof last);
        if (which) {
            while (wait(NULL) > 0)
                ;
            f[1] = fopen("log", "r");
        }
        while (fscanf(f[which], "%d:%d\n", &k, &i) == 2) {
            order = order * 31 + (unsigned)k;
            lines[which]++;
            sum[which] += i;
            unordered += i != last[k] + 1;
            last[k] = i;
        }
        printf("order %x\n", order);
    }
    printf("invariant %ld %ld %ld %ld unordered %ld\n", lines[0], sum[0], lines[1], sum[1], unordered);
    return 0;
}
