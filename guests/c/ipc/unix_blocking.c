// modes: static dynamic musl
// UNIX sockets that wait: connect to a full backlog, accept, datagrams to a full receiver, MSG_WAITALL, signals, close by another process.
#include "../common.h"
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un a;
static socklen_t al;
static char big[600000];

static int sock(int kind) {
    int fd = socket(AF_UNIX, kind, 0);
    MUST(fd >= 0);
    return fd;
}

static void on_signal(int s) { (void)s; }
/* SIGALRM at this interval, so that one that comes before a call waits is followed by another; 0: no more. */
static void alarms(int us) {
    struct itimerval it = {{0, us}, {0, us}};
    setitimer(ITIMER_REAL, &it, NULL);
}

static void name(const char *s) {
    memset(&a, 0, sizeof a);
    a.sun_family = AF_UNIX;
    strcpy(a.sun_path, s);
    al = offsetof(struct sockaddr_un, sun_path) + strlen(s);
}

int main(void) {
    char b[100];
    int s[2];
    signal(SIGPIPE, SIG_IGN);
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGALRM, &sa, NULL);
    name("listener");
    int l = sock(SOCK_STREAM);
    MUST(bind(l, (void *)&a, al) == 0 && listen(l, 0) == 0);
    int c1 = sock(SOCK_STREAM), c2 = sock(SOCK_STREAM);
    SHOW(connect(c1, (void *)&a, al));
    alarms(5000);
    SHOW(connect(c2, (void *)&a, al));
    alarms(0);
    fflush(stdout);
    int go[2];
    MUST(pipe(go) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        int c = sock(SOCK_STREAM), connected = connect(c, (void *)&a, al);
        MUST(read(go[0], b, 1) == 1);
        SHOW(connected);
        SHOW(send(c, "from child", 10, 0));
        child_exit(0);
    }
    sleep_ms(5);
    int s1 = accept(l, NULL, NULL);
    CHECK(s1 >= 0);
    MUST(write(go[1], "x", 1) == 1);
    wait_show("child", pid);
    close(go[0]), close(go[1]);
    int s2 = accept(l, NULL, NULL);
    SHOW(recv(s2, b, sizeof b, MSG_WAITALL));
    SHOW(recv(s2, b, sizeof b, 0));
    alarms(5000);
    SHOW(accept(l, NULL, NULL));
    alarms(0);
    struct timeval t = {0, 8000};
    setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    SHOW(accept(l, NULL, NULL));
    close(s1), close(s2), close(c1), close(c2);

    name("dgrams");
    int r = sock(SOCK_DGRAM), w = sock(SOCK_DGRAM);
    MUST(bind(r, (void *)&a, al) == 0 && connect(w, (void *)&a, al) == 0);
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        int n = 0;
        sleep_ms(5);
        while (recv(r, b, sizeof b, 0) == 5)
            n++;
        child_exit(n);
    }
    int sent = 0;
    for (int i = 0; i < 40; i++)
        sent += send(w, "12345", 5, 0) == 5;
    SHOW(sent);
    SHOW(send(w, "end", 3, 0));
    wait_show("receiver", pid);
    for (int i = 0; i < 11; i++)
        send(w, "x", 1, 0);
    alarms(5000);
    SHOW(send(w, "x", 1, 0));
    alarms(0);
    SHOW(send(w, "x", 1, MSG_DONTWAIT));

    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        close(s[0]);
        for (int i = 0; i < 5; i++) {
            MUST(write(s[1], "1234567890", 10) == 10);
            sleep_ms(1);
        }
        child_exit(0);
    }
    close(s[1]);
    SHOW(recv(s[0], b, 35, MSG_WAITALL));
    SHOW(recv(s[0], b, 35, MSG_WAITALL));
    SHOW(recv(s[0], b, 35, MSG_WAITALL));
    wait_show("writer", pid);
    close(s[0]);

    /* A blocked read ends when the other process closes or dies. */
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    pid = fork();
    if (pid == 0) {
        close(s[0]);
        sleep_ms(5);
        child_exit(0);
    }
    close(s[1]);
    SHOW(read(s[0], b, 10));
    wait_show("closer", pid);
    SHOW(write(s[0], b, 10));
    close(s[0]);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    pid = fork();
    if (pid == 0) {
        close(s[0]);
        sleep_ms(5);
        MUST(read(s[1], b, 10) == 10);
        raise(SIGKILL);
    }
    close(s[1]);
    errno = 0;
    ssize_t n = write(s[0], big, sizeof big);
    printf("a blocked write: %s, %s\n", n < 0 ? err_name(errno) : "part", n > 0 && n < (ssize_t)sizeof big ? "some" : "none or all");
    wait_show("killed reader", pid);
    SHOW(write(s[0], b, 1));
    SHOW(read(s[0], b, 1));
    SHOW(read(s[0], b, 1));
    close(s[0]);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    alarms(5000);
    SHOW(read(s[0], b, 1));
    alarms(0);
    alarms(5000);
    n = write(s[0], big, sizeof big);
    alarms(0);
    printf("interrupted write: %s\n", n > 0 && n < (ssize_t)sizeof big ? "part" : "other");
    alarms(5000);
    SHOW(write(s[0], big, 1));
    alarms(0);
    sa.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &sa, NULL);
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        sleep_ms(15);
        while (recv(s[1], big, sizeof big, MSG_DONTWAIT) > 0)
            ;
        child_exit(0);
    }
    alarms(5000);
    SHOW(write(s[0], big, 1));
    alarms(0);
    wait_show("drain", pid);
    pid = fork();
    if (pid == 0) {
        sleep_ms(15);
        child_exit(write(s[1], "late", 4) != 4);
    }
    alarms(5000);
    SHOW(read(s[0], b, 10));
    alarms(0);
    wait_show("late writer", pid);
    return done();
}
