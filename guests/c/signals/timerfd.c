// modes: static dynamic musl
// timerfd: one shot, periodic with a count, absolute, nonblocking, in poll, disarmed, errors.
#include "../common.h"
#include <poll.h>
#include <sys/timerfd.h>

int main(void) {
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    uint64_t n = 0;
    struct itimerspec t = {{0, 0}, {0, 2000000}}, left;
    SHOW(read(fd, &n, 8));
    SHOW(timerfd_settime(fd, 0, &t, NULL));
    struct pollfd p = {fd, POLLIN, 0};
    SHOW(poll(&p, 1, -1));
    SHOW(read(fd, &n, 8));
    SHOW(n);
    SHOW(read(fd, &n, 8));
    SHOW(timerfd_gettime(fd, &left));
    CHECK(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
    t = (struct itimerspec){{0, 1000000}, {0, 1000000}};
    SHOW(timerfd_settime(fd, 0, &t, NULL));
    sleep_ms(10);
    SHOW(read(fd, &n, 8));
    CHECK(n >= 5 && n < 60000);
    int blocking = timerfd_create(CLOCK_REALTIME, 0);
    clock_gettime(CLOCK_REALTIME, &t.it_value);
    t.it_value.tv_nsec += 3000000;
    if (t.it_value.tv_nsec >= 1000000000)
        t.it_value.tv_sec++, t.it_value.tv_nsec -= 1000000000;
    t.it_interval.tv_nsec = 0;
    SHOW(timerfd_settime(blocking, TFD_TIMER_ABSTIME, &t, NULL));
    SHOW(read(blocking, &n, 8));
    SHOW(n);
    t.it_value.tv_sec -= 10;
    SHOW(timerfd_settime(blocking, TFD_TIMER_ABSTIME, &t, NULL)); /* in the past: at once */
    SHOW(read(blocking, &n, 8));
    t = (struct itimerspec){{0, 0}, {1000, 0}};
    SHOW(timerfd_settime(fd, 0, &t, &left));
    CHECK(left.it_interval.tv_nsec == 1000000);
    SHOW(timerfd_gettime(fd, &left));
    CHECK(left.it_value.tv_sec >= 800);
    t.it_value.tv_sec = 0;
    SHOW(timerfd_settime(fd, 0, &t, NULL));
    SHOW(poll(&p, 1, 0));
    SHOW(read(fd, &n, 4));
    SHOW(write(fd, &n, 8));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(timerfd_create(99, 0));
    SHOW(timerfd_create(CLOCK_MONOTONIC, 0x100));
    SHOW(timerfd_settime(0, 0, &t, NULL));
    SHOW(timerfd_settime(99, 0, &t, NULL));
    t.it_value.tv_nsec = 1000000000;
    SHOW(timerfd_settime(fd, 0, &t, NULL));
    SHOW(timerfd_settime(fd, 0x100, &t, NULL));
    return done();
}
