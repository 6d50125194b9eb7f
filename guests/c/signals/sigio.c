// modes: static dynamic musl
// SIGIO by O_ASYNC and F_SETOWN on a socket pair and a pipe; F_GETOWN, F_SETSIG.
#include "../common.h"
#include <sys/ioctl.h>
#include <sys/socket.h>

static volatile sig_atomic_t hits;
static volatile int fd_seen;
static void handler(int s, siginfo_t *i, void *u) {
    (void)s, (void)u;
    fd_seen = i->si_fd;
    hits++;
}

int main(void) {
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGIO, &a, NULL);
    sigaction(SIGRTMIN, &a, NULL);
    int s[2], on = 1;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    SHOW(fcntl(s[0], F_GETOWN));
    SHOW(fcntl(s[0], F_SETOWN, getpid()));
    CHECK(fcntl(s[0], F_GETOWN) == getpid());
    SHOW(ioctl(s[0], FIOASYNC, &on));
    SHOW(fcntl(s[0], F_GETFL) & O_ASYNC ? 1 : 0);
    SHOW(write(s[1], "x", 1));
    while (!hits)
        sleep_ms(1);
    puts("SIGIO came");
    SHOW(fcntl(s[0], F_SETSIG, SIGRTMIN));
    hits = 0;
    SHOW(write(s[1], "x", 1));
    while (!hits)
        sleep_ms(1);
    CHECK(fd_seen == s[0]);
    on = 0;
    SHOW(ioctl(s[0], FIOASYNC, &on));
    hits = 0;
    SHOW(write(s[1], "x", 1));
    sleep_ms(2);
    SHOW(hits);
    SHOW(fcntl(s[0], F_SETOWN, 999999999));
    SHOW(fcntl(s[0], F_SETSIG, 999));
    return done();
}
