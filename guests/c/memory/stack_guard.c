// modes: static dynamic musl
// Nothing is mapped close below the stack, however much is mapped: an overflow faults and overwrites nothing.
#include "../common.h"

int main(void) {
    for (int i = 0; i < 300; i++)
        MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    MUST(mmap(NULL, 40 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    FILE *f = fopen("/proc/self/maps", "r");
    MUST(f);
    char line[512];
    unsigned long start, end, before = 0, gap = 0;
    while (fgets(line, sizeof line, f)) {
        MUST(sscanf(line, "%lx-%lx", &start, &end) == 2);
        if (strstr(line, "[stack]"))
            gap = start - before;
        before = end;
    }
    CHECK(gap >= 256 * 4096);
    return done();
}
