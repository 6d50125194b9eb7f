// modes: static dynamic musl
// Scheduling attributes as they are kept and reported, with the rights that a plain user has; nice values; I/O priority.
#include "../common.h"
#include <sched.h>
#include <sys/syscall.h>

struct attr { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; };
static long getattr(pid_t p, void *a, unsigned n, unsigned f) { return syscall(SYS_sched_getattr, p, a, n, f); }
static long setattr(pid_t p, void *a, unsigned f) { return syscall(SYS_sched_setattr, p, a, f); }
static void show_attr(void) {
    struct attr a = {0};
    MUST(getattr(0, &a, sizeof a, 0) == 0);
    printf("policy %u flags %llu nice %d priority %u\n", a.policy, (unsigned long long)a.flags, a.nice, a.priority);
}

int main(void) {
    if (geteuid() == 0) {
        MUST(setgid(65534) == 0 && setuid(65534) == 0);
    }
    struct rlimit none = {0, 0};
    MUST(setrlimit(RLIMIT_NICE, &none) == 0 && setrlimit(RLIMIT_RTPRIO, &none) == 0);
    struct sched_param sp = {0};
    SHOW(syscall(SYS_sched_getscheduler, 0));
    SHOW(syscall(SYS_sched_getparam, 0, &sp));
    SHOW(syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &sp));
    show_attr();
    SHOW(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &sp));
    sp.sched_priority = 1;
    SHOW(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &sp));
    SHOW(syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &sp));
    SHOW(syscall(SYS_sched_setparam, 0, &sp));
    SHOW(syscall(SYS_sched_setscheduler, 0, 99, &sp));
    SHOW(syscall(SYS_sched_setscheduler, -1, 0, &sp));
    SHOW(syscall(SYS_sched_setscheduler, 0, 0, NULL));
    SHOW(syscall(SYS_sched_getscheduler, 0x3ffffff));
    SHOW(sched_get_priority_max(SCHED_FIFO));
    SHOW(sched_get_priority_min(SCHED_RR));
    SHOW(sched_get_priority_max(SCHED_OTHER));
    SHOW(sched_get_priority_max(77));
    errno = 0;
    printf("nice 3: %d\n", nice(3));
    errno = 0;
    printf("getpriority %d\n", getpriority(PRIO_PROCESS, 0));
    SHOW(setpriority(PRIO_PROCESS, 0, 1));
    SHOW(setpriority(PRIO_PROCESS, 0, 10));
    SHOW(setpriority(9, 0, 10));
    SHOW(setpriority(PRIO_PROCESS, 0x3ffffff, 10));
    SHOW(setpriority(PRIO_PGRP, 0x3ffffff, 10));
    show_attr();
    struct attr a = {.size = sizeof a, .nice = 12};
    SHOW(setattr(0, &a, 0));
    show_attr();
    a.flags = 1; /* reset on fork */
    SHOW(setattr(0, &a, 0));
    show_attr();
    fflush(stdout);
    pid_t p = fork();
    if (p == 0) {
        show_attr();
        fflush(stdout);
        _exit(0);
    }
    wait_show("child", p);
    a.flags = 0;
    SHOW(setattr(0, &a, 0));
    a.policy = 77;
    SHOW(setattr(0, &a, 0));
    SHOW(setattr(0, NULL, 0));
    SHOW(setattr(0, &a, 1));
    SHOW(getattr(0, &a, 8, 0));
    SHOW(getattr(0, &a, 48, 1));
    SHOW(syscall(SYS_ioprio_get, 1, 0) >> 13 <= 2);
    SHOW(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6));
    SHOW(syscall(SYS_ioprio_get, 1, 0));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 1 << 13));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 7 << 13));
    SHOW(syscall(SYS_ioprio_get, 9, 0));
    SHOW(syscall(SYS_ioprio_get, 1, 0x3ffffff));
    return done();
}
