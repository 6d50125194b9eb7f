/* States in which a program is cut on purpose (mode `held` of the conformance runner).
 *
 * held() prints a line that begins with "held" and waits for a line of standard input. Natively and in the other modes that is there already
 * (`// stdin: \n\n\n`). In mode `held` the runner takes a snapshot when it sees the line, ends everything, restores the snapshot in fresh
 * processes, and only then gives the line. So what the other threads and processes do at held() is what they do across the cut. */
#ifndef FTL_HELD_H
#define FTL_HELD_H
#include "common.h"

static UNUSED void held(const char *what) {
    char c = 0;
    printf("held: %s\n", what);
    fflush(stdout);
    while (c != '\n')
        MUST(read(0, &c, 1) == 1 || errno == EINTR);
}

/* Memory that children share. */
static UNUSED void *shared(size_t n) {
    void *m = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(m != MAP_FAILED);
    return m;
}
#endif
