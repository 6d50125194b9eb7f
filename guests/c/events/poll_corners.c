// modes: static dynamic musl
// ppoll, pselect, poll and select: masks, interruption, remaining time, readiness of every kind of file, many descriptors.
#include "../common.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static volatile sig_atomic_t hits;
static void on_signal(int s) { (void)s, hits++; }

static void alarm_in(int us) {
    struct itimerval it = {{0, 0}, {0, us}};
    setitimer(ITIMER_REAL, &it, NULL);
}
/* At this interval, so that one that comes before a call waits is followed by another; 0: no more. */
static void alarms(int us) {
    struct itimerval it = {{0, us}, {0, us}};
    setitimer(ITIMER_REAL, &it, NULL);
}

static void all(const char *what, int fd) {
    struct pollfd p = {fd, 0x3fff, 0x7777};
    int n = poll(&p, 1, 0);
    printf("%s: %d %x", what, n, p.revents);
    p.events = 0;
    n = poll(&p, 1, 0);
    printf(", asked for nothing: %d %x\n", n, p.revents);
}

static void bits(const char *what, int fd) {
    fd_set r, w, x;
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_ZERO(&x);
    FD_SET(fd, &r), FD_SET(fd, &w), FD_SET(fd, &x);
    int n = select(fd + 1, &r, &w, &x, &(struct timeval){0, 0});
    printf("%s: %d r%d w%d x%d\n", what, n, FD_ISSET(fd, &r) != 0, FD_ISSET(fd, &w) != 0, FD_ISSET(fd, &x) != 0);
}

int main(void) {
    int p[2], s[2], f = open("f", O_RDWR | O_CREAT, 0600), d = open(".", O_RDONLY);
    MUST(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    int efd = eventfd(0, 0), ep = epoll_create1(0), tfd = timerfd_create(CLOCK_MONOTONIC, 0);
    all("file", f), all("directory", d), all("pipe", p[0]), all("pipe's end", p[1]);
    all("socket", s[0]), all("eventfd", efd), all("epoll", ep), all("timerfd", tfd);
    all("closed", 90), all("negative", -1);
    bits("file", f), bits("pipe", p[0]), bits("pipe's end", p[1]), bits("socket", s[0]), bits("eventfd", efd);
    MUST(write(s[1], "x", 1) == 1);
    shutdown(s[1], SHUT_WR);
    all("half closed socket", s[0]), bits("half closed socket", s[0]);
    close(s[1]);
    all("dead socket", s[0]), bits("dead socket", s[0]);
    int q[2];
    MUST(pipe(q) == 0);
    close(q[1]);
    all("dead pipe", q[0]), bits("dead pipe", q[0]);
    MUST(pipe(q) == 0);
    close(q[0]);
    all("pipe without reader", q[1]), bits("pipe without reader", q[1]);

    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &sa, NULL);
    struct pollfd pf = {p[0], POLLIN, 0};
    struct timespec t = {1000, 0};
    struct timeval tv;
    sigset_t none, block, now;
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGALRM);

    alarms(5000);
    SHOW(poll(&pf, 1, -1));
    SHOW(syscall(SYS_ppoll, &pf, 1L, &t, NULL, 8L));
    alarms(0);
    printf("left %d\n", t.tv_sec < 1000 && t.tv_sec >= 800);
    fd_set r;
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    tv = (struct timeval){1000, 0};
    alarms(5000);
    SHOW(select(p[0] + 1, &r, NULL, NULL, &tv));
    alarms(0);
    printf("left %d, set kept %d\n", tv.tv_sec < 1000 && tv.tv_sec >= 800, FD_ISSET(p[0], &r) != 0);

    sigprocmask(SIG_BLOCK, &block, NULL);
    hits = 0;
    alarm_in(2000);
    SHOW(poll(&pf, 1, 10));
    printf("hits %d\n", hits);
    t = (struct timespec){1000, 0};
    SHOW(ppoll(&pf, 1, &t, &none));
    printf("hits %d\n", hits);
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("blocked again %d\n", sigismember(&now, SIGALRM));
    raise(SIGALRM);
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    SHOW(pselect(p[0] + 1, &r, NULL, NULL, &t, &none));
    printf("hits %d\n", hits);
    /* Ready and pending at once: the result wins, the signal stays pending. */
    MUST(write(p[1], "x", 1) == 1);
    raise(SIGALRM);
    SHOW(ppoll(&pf, 1, &t, &none));
    printf("hits %d\n", hits);
    SHOW(ppoll(&pf, 1, NULL, &none));
    sigset_t pend;
    sigpending(&pend);
    printf("hits %d pending %d\n", hits, sigismember(&pend, SIGALRM));
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    printf("hits %d\n", hits);
    char c;
    MUST(read(p[0], &c, 1) == 1);

    t = (struct timespec){0, 4000000};
    SHOW(syscall(SYS_ppoll, &pf, 1L, &t, NULL, 8L));
    printf("%ld %ld\n", (long)t.tv_sec, (long)t.tv_nsec);
    tv = (struct timeval){0, 4000};
    SHOW(select(0, NULL, NULL, NULL, &tv));
    printf("%ld %ld\n", (long)tv.tv_sec, (long)tv.tv_usec);
    tv = (struct timeval){0, 5000000};
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    MUST(write(p[1], "x", 1) == 1);
    SHOW(syscall(SYS_select, p[0] + 1, &r, NULL, NULL, &tv));
    printf("%ld\n", (long)tv.tv_sec);
    t = (struct timespec){0, -1};
    SHOW(syscall(SYS_ppoll, &pf, 1L, &t, NULL, 8L));
    t = (struct timespec){0, 0};
    SHOW(syscall(SYS_ppoll, &pf, 1L, &t, &none, 7L));
    SHOW(syscall(SYS_ppoll, &pf, 1L, &t, BAD, 8L));
    SHOW(syscall(SYS_poll, NULL, 1L, 0));
    FD_ZERO(&r);
    FD_SET(60, &r); /* a number that even the smallest table has */
    SHOW(select(61, &r, NULL, NULL, &(struct timeval){0, 0}));
    SHOW(select(80, &r, NULL, NULL, &(struct timeval){0, 0}));
    printf("bit kept %d\n", FD_ISSET(80, &r) != 0);

    /* A thousand descriptors, one ready. */
    struct rlimit rl = {1100, 1100};
    MUST(setrlimit(RLIMIT_NOFILE, &rl) == 0);
    static struct pollfd many[1000];
    for (int i = 0; i < 1000; i++)
        many[i] = (struct pollfd){eventfd(i == 777, 0), POLLIN, 0};
    SHOW(poll(many, 1000, -1));
    printf("%x %x\n", many[777].revents, many[778].revents);
    SHOW(poll(many, 1101, 0));
    many[777].fd = -5;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        uint64_t one = 1;
        sleep_ms(10);
        child_exit(write(many[3].fd, &one, 8) != 8);
    }
    SHOW(poll(many, 1000, -1));
    printf("%x\n", many[3].revents);
    wait_show("writer", pid);
    return done();
}
