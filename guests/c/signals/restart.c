// modes: static dynamic musl
// needs: threads
// Calls that a handler interrupts: which return EINTR, which go on when SA_RESTART is set.
#include "../common.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>

static volatile int hits, in_call, returned;
static pthread_t target;
static void handler(int s) { (void)s, hits++; }
static int p[2], s[2], full[2], ep;

static long call(int which) {
    char c;
    struct pollfd pf = {p[0], POLLIN, 0};
    struct epoll_event ev;
    fd_set set;
    FD_ZERO(&set);
    FD_SET(p[0], &set);
    struct timespec t = {100, 0};
    struct timeval tv = {100, 0};
    int st;
    static char big[1 << 20];
    switch (which) {
    case 0: return read(p[0], &c, 1);
    case 1: return recv(s[0], &c, 1, 0);
    case 2: return waitpid(-1, &st, 0);
    case 3: return write(full[1], big, sizeof big);
    case 4: return poll(&pf, 1, 100000);
    case 5: return epoll_wait(ep, &ev, 1, 100000);
    case 6: return select(p[0] + 1, &set, NULL, NULL, &tv);
    case 7: return nanosleep(&t, NULL);
    case 8: return pause();
    case 9: return (errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL)) ? -1 : 0;
    default: return accept(s[1], NULL, NULL);
    }
}
static const char *names[] = {"read", "recv", "waitpid", "write", "poll", "epoll_wait", "select", "nanosleep", "pause", "clock_nanosleep"};

static void *sender(void *arg) {
    bool restart = arg != NULL;
    int which = in_call - 1;
    sleep_ms(4);
    for (int i = 0; i < 50 && !hits; i++) {
        pthread_kill(target, SIGUSR1);
        sleep_ms(2);
    }
    if (restart && which <= 3) { /* now let the call end by itself */
        static char drain[1 << 16];
        sleep_ms(4);
        if (which == 0)
            MUST(write(p[1], "x", 1) == 1);
        if (which == 1)
            MUST(write(s[1], "x", 1) == 1);
        if (which == 2) {
            pid_t kid = *(pid_t *)arg;
            kill(kid, SIGKILL);
        }
        if (which == 3) /* it may have written all before it says that it has returned */
            while (!returned)
                if (poll(&(struct pollfd){full[0], POLLIN, 0}, 1, 5) == 1)
                    MUST(read(full[0], drain, sizeof drain) > 0);
    } else
        while (!returned) { /* a signal that came before the call blocked would be lost */
            pthread_kill(target, SIGUSR1);
            sleep_ms(2);
        }
    return NULL;
}

int main(void) {
    MUST(pipe(p) == 0 && pipe(full) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev) == 0);
    target = pthread_self();
    for (int flags = 0; flags < 2; flags++)
        for (int i = 0; i < 10; i++) {
            struct sigaction a = {.sa_handler = handler, .sa_flags = flags ? SA_RESTART : 0};
            sigaction(SIGUSR1, &a, NULL);
            hits = returned = 0;
            in_call = i + 1;
            static pid_t kid;
            if (i == 2 && (kid = fork()) == 0)
                for (;;)
                    pause();
            pthread_t t;
            MUST(pthread_create(&t, NULL, sender, flags ? &kid : NULL) == 0);
            long r = call(i);
            int e = errno;
            returned = 1;
            pthread_join(t, NULL);
            printf("%s %s: %s\n", flags ? "SA_RESTART" : "plain", names[i], r == -1 ? err_name(e) : i == 3 ? "wrote" : i == 2 ? "child" : "done");
            if (i == 2 && r == -1) {
                kill(kid, SIGKILL);
                waitpid(kid, NULL, 0);
            }
            if (i == 3) {
                static char drain[1 << 20];
                fcntl(full[0], F_SETFL, O_NONBLOCK);
                while (read(full[0], drain, sizeof drain) > 0)
                    ;
                fcntl(full[0], F_SETFL, 0);
            }
        }
    return done();
}
