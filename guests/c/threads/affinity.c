// modes: static dynamic musl
// needs: threads
// Affinity, scheduler parameters, priorities: what is set is read back; what is invalid is refused.
#include "../common.h"
#include <sched.h>

int main(void) {
    cpu_set_t all, one, back;
    SHOW(sched_getaffinity(0, sizeof all, &all));
    CHECK(CPU_COUNT(&all) >= 1);
    CPU_ZERO(&one);
    int first = 0;
    while (!CPU_ISSET(first, &all))
        first++;
    CPU_SET(first, &one);
    SHOW(sched_setaffinity(0, sizeof one, &one));
    SHOW(sched_getaffinity(0, sizeof back, &back));
    CHECK(CPU_EQUAL(&one, &back));
    CHECK(sched_getcpu() == first);
    CPU_ZERO(&one);
    SHOW(sched_setaffinity(0, sizeof one, &one));
    SHOW(syscall(SYS_sched_getaffinity, 0, 1L, &back));
    SHOW(syscall(SYS_sched_getaffinity, 0, 12L, &back));
    SHOW(sched_getaffinity(999999999, sizeof back, &back));
    SHOW(sched_setaffinity(0, sizeof all, &all));
    SHOW(sched_yield());
    SHOW(syscall(SYS_sched_getscheduler, 0));
    struct sched_param sp = {1};
    SHOW(syscall(SYS_sched_getparam, 0, &sp));
    SHOW(sp.sched_priority);
    sp.sched_priority = 0;
    SHOW(syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &sp));
    SHOW(syscall(SYS_sched_getscheduler, 0));
    SHOW(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &sp));
    sp.sched_priority = 5;
    SHOW(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &sp));
    SHOW(syscall(SYS_sched_setscheduler, 0, 99, &sp));
    SHOW(sched_get_priority_max(SCHED_FIFO));
    SHOW(sched_get_priority_min(SCHED_FIFO));
    SHOW(sched_get_priority_max(SCHED_OTHER));
    SHOW(sched_get_priority_max(99));
    struct timespec t;
    SHOW(sched_rr_get_interval(0, &t));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(setpriority(PRIO_PROCESS, 0, 5));
    SHOW(getpriority(PRIO_PROCESS, 0));
    errno = 0;
    SHOW(nice(3));
    SHOW(setpriority(99, 0, 5));
    SHOW(getpriority(PRIO_PROCESS, 999999999));
    return done();
}
