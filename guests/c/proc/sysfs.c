// modes: static dynamic musl
// The entries of /sys that runtimes read: processors, huge pages, cgroup limits.
#include "../common.h"
#include <dirent.h>

static char b[4096];
static bool slurp(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, b, sizeof b - 1);
    close(fd);
    b[n > 0 ? n : 0] = 0;
    return n > 0;
}

int main(void) {
    CHECK(slurp("/sys/devices/system/cpu/online") && b[0] == '0');
    int last = strrchr(b, '-') ? atoi(strrchr(b, '-') + 1) : 0;
    CHECK(last + 1 >= sysconf(_SC_NPROCESSORS_ONLN));
    CHECK(slurp("/sys/devices/system/cpu/possible") && b[0] == '0');
    int cpus = 0;
    DIR *d = opendir("/sys/devices/system/cpu");
    MUST(d);
    for (struct dirent *e; (e = readdir(d));)
        cpus += strncmp(e->d_name, "cpu", 3) == 0 && e->d_name[3] >= '0' && e->d_name[3] <= '9';
    closedir(d);
    CHECK(cpus == sysconf(_SC_NPROCESSORS_CONF));
    CHECK(slurp("/sys/kernel/mm/transparent_hugepage/enabled") && strchr(b, '['));
    if (slurp("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"))
        CHECK(atol(b) == 2097152);
    else
        CHECK(errno == ENOENT);
    struct stat s;
    CHECK(stat("/sys/fs/cgroup", &s) == 0 && S_ISDIR(s.st_mode));
    SHOW(open("/sys/no-such-entry", O_RDONLY));
    return done();
}
