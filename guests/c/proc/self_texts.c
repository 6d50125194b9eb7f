// modes: static dynamic musl
// args: first second
// cmdline, comm, environ, auxv, limits, statm, io and others of /proc/self.
#include "../common.h"
#include <sys/auxv.h>

static ssize_t slurp(const char *path, char *b, size_t size) {
    int fd = open(path, O_RDONLY);
    ssize_t n, total = 0;
    if (fd < 0) {
        printf("%s: %s\n", path, err_name(errno));
        return -1;
    }
    while ((n = read(fd, b + total, size - 1 - total)) > 0)
        total += n;
    close(fd);
    b[total] = 0;
    return total;
}

int main(int argc, char **argv) {
    static char b[65536];
    ssize_t n = slurp("/proc/self/cmdline", b, sizeof b);
    size_t at = 0;
    int i = 0;
    for (; at < (size_t)n; at += strlen(b + at) + 1, i++)
        MUST(strcmp(b + at, argv[i]) == 0);
    CHECK(i == argc);
    slurp("/proc/self/comm", b, sizeof b);
    char want[16] = {0};
    const char *base = strrchr(argv[0], '/') + 1;
    memcpy(want, base, strlen(base) < 15 ? strlen(base) : 15);
    CHECK(strncmp(b, want, strlen(want)) == 0 && b[strlen(want)] == '\n');
    n = slurp("/proc/self/environ", b, sizeof b);
    bool found = false;
    for (at = 0; at < (size_t)n; at += strlen(b + at) + 1)
        found |= strcmp(b + at, "FTL_GUEST=1") == 0;
    CHECK(found);
    n = slurp("/proc/self/auxv", b, sizeof b);
    unsigned long *v = (unsigned long *)b, entry = 0, base_of = 0;
    for (; v[0]; v += 2) {
        if (v[0] == AT_ENTRY)
            entry = v[1];
        if (v[0] == AT_PHDR)
            base_of = v[1];
    }
    CHECK(n % 16 == 0 && entry == getauxval(AT_ENTRY) && base_of == getauxval(AT_PHDR));
    slurp("/proc/self/limits", b, sizeof b);
    CHECK(strstr(b, "Max open files") && strstr(b, "Max stack size"));
    unsigned long size, rss;
    slurp("/proc/self/statm", b, sizeof b);
    CHECK(sscanf(b, "%lu %lu", &size, &rss) == 2 && size >= rss && rss > 0);
    slurp("/proc/self/cgroup", b, sizeof b);
    CHECK(strchr(b, ':') != NULL);
    slurp("/proc/self/mountinfo", b, sizeof b);
    CHECK(strstr(b, " / / ") && strstr(b, " /proc "));
    slurp("/proc/self/oom_score_adj", b, sizeof b);
    CHECK(b[0] == '-' || (b[0] >= '0' && b[0] <= '9'));
    slurp("/proc/self/loginuid", b, sizeof b);
    slurp("/proc/self/maps", b, sizeof b);
    CHECK(strstr(b, "[stack]") && strstr(b, "[vdso]") && strstr(b, "r-xp"));
    CHECK(strstr(b, "self_texts"));
    slurp("/proc/self/smaps_rollup", b, sizeof b);
    CHECK(b[0] == 0 || strstr(b, "Rss:"));
    return done();
}
