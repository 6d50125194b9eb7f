// modes: static dynamic musl
// uname: x86_64 Linux of at least the version that libc asks for; sysinfo and sysconf agree.
#include "../common.h"
#include <sys/sysinfo.h>
#include <sys/utsname.h>

int main(void) {
    struct utsname u;
    int major = 0, minor = 0;
    SHOW(uname(&u));
    printf("%s %s\n", u.sysname, u.machine);
    CHECK(sscanf(u.release, "%d.%d", &major, &minor) == 2);
    CHECK(major >= 4);
    CHECK(u.nodename[0] && u.version[0]);
    char host[65];
    SHOW(gethostname(host, sizeof host));
    CHECK(strcmp(host, u.nodename) == 0);
    SHOW(syscall(SYS_uname, BAD));
    struct sysinfo s;
    SHOW(sysinfo(&s));
    CHECK(s.totalram > 0 && s.freeram <= s.totalram && s.mem_unit > 0 && s.procs > 0);
    CHECK((long)(s.totalram * s.mem_unit / 4096) == sysconf(_SC_PHYS_PAGES));
    SHOW(syscall(SYS_sysinfo, BAD));
    SHOW(sysconf(_SC_PAGESIZE));
    SHOW(sysconf(_SC_CLK_TCK));
    CHECK(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    CHECK(sysconf(_SC_NPROCESSORS_CONF) >= sysconf(_SC_NPROCESSORS_ONLN));
    return done();
}
