// modes: static dynamic musl
// meminfo, cpuinfo, stat, uptime, loadavg, version, mounts, filesystems: there, well-formed, consistent with calls.
#include "../common.h"
#include <sys/sysinfo.h>
#include <sys/utsname.h>

static char b[262144];
static bool slurp(const char *path) {
    int fd = open(path, O_RDONLY);
    ssize_t n, total = 0;
    if (fd < 0)
        return false;
    while ((n = read(fd, b + total, sizeof b - 1 - total)) > 0)
        total += n;
    close(fd);
    b[total] = 0;
    return total > 0;
}
static int count(const char *what) {
    int n = 0;
    for (char *p = b; (p = strstr(p, what)); p++)
        n++;
    return n;
}
static long number(const char *key) {
    char *p = strstr(b, key);
    return p ? atol(p + strlen(key)) : -1;
}

int main(void) {
    struct sysinfo si;
    MUST(sysinfo(&si) == 0);
    CHECK(slurp("/proc/meminfo"));
    long total = number("MemTotal:");
    CHECK(total > 0 && number("MemFree:") > 0 && number("MemAvailable:") > 0 && number("SwapTotal:") >= 0);
    CHECK(total == (long)(si.totalram * si.mem_unit / 1024));
    CHECK(number("Cached:") >= 0 && number("Buffers:") >= 0 && number("Hugepagesize:") > 0);
    CHECK(slurp("/proc/cpuinfo"));
    CHECK(count("processor\t") == sysconf(_SC_NPROCESSORS_ONLN));
    CHECK(strstr(b, "vendor_id") && strstr(b, "flags") && strstr(b, " sse2"));
    CHECK(slurp("/proc/stat"));
    CHECK(strncmp(b, "cpu ", 4) == 0 && strstr(b, "\nbtime ") && strstr(b, "\ncpu0 "));
    CHECK(llabs((long long)time(NULL) - number("\nbtime ") - si.uptime) < 30);
    double up = 0, idle;
    CHECK(slurp("/proc/uptime") && sscanf(b, "%lf %lf", &up, &idle) == 2 && up > 0);
    CHECK(up - (double)si.uptime < 30 && (double)si.uptime - up < 30);
    double l1, l2, l3;
    int running, all, last;
    CHECK(slurp("/proc/loadavg") && sscanf(b, "%lf %lf %lf %d/%d %d", &l1, &l2, &l3, &running, &all, &last) == 6);
    struct utsname u;
    uname(&u);
    CHECK(slurp("/proc/version") && strstr(b, "Linux version ") == b && strstr(b, u.release));
    CHECK(slurp("/proc/mounts") && strstr(b, " / ") && strstr(b, "proc /proc proc"));
    CHECK(slurp("/proc/filesystems") && strstr(b, "proc"));
    CHECK(slurp("/proc/sys/kernel/osrelease") && strncmp(b, u.release, strlen(u.release)) == 0);
    CHECK(slurp("/proc/sys/kernel/hostname") && strncmp(b, u.nodename, strlen(u.nodename)) == 0);
    CHECK(slurp("/proc/sys/kernel/pid_max") && atol(b) >= 32768);
    CHECK(slurp("/proc/sys/kernel/random/uuid") && strlen(b) == 37);
    CHECK(slurp("/proc/sys/kernel/random/boot_id") && strlen(b) == 37);
    CHECK(slurp("/proc/sys/vm/overcommit_memory") && b[0] >= '0' && b[0] <= '2');
    CHECK(slurp("/proc/sys/vm/max_map_count") && atol(b) > 1000);
    CHECK(slurp("/proc/sys/net/core/somaxconn") && atol(b) > 0);
    CHECK(slurp("/proc/sys/fs/file-max") && atol(b) > 0);
    CHECK(slurp("/proc/sys/kernel/threads-max") && atol(b) > 0);
    CHECK(slurp("/proc/sys/kernel/ngroups_max") && atol(b) == 65536);
    CHECK(slurp("/proc/sys/kernel/cap_last_cap") && atol(b) > 30);
    SHOW(access("/proc/no-such-entry", F_OK));
    SHOW(access("/proc/sys/kernel/no-such-entry", F_OK));
    return done();
}
