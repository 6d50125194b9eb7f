// modes: static dynamic musl
// stdin: \n\n\n
// held
// timeout: 90
// Every call that waits, each in a process of its own, all of them waiting at the cut. Afterwards they wait still, and what they
// wait for ends them as if nothing had been.
#include "../held.h"
#include "../futex.h"
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

enum { LOCK_PI = 6, UNLOCK_PI = 7, LONG_S = 6000, BIG = 100000 };

/* Of one row: what its calls work on, made before the fork. */
static struct row {
    const char *name;
    void (*make)(void);
    long (*wait)(void); /* in the child */
    void (*release)(void);
    const char *states;
} rows[];
static struct seen {
    volatile int about, ended;
    volatile pid_t helper;
    volatile int helper_about;
    int word, error;
    long result;
} *seen;
static int row_fd[64][4];
static pid_t row_pid[64];
static int at; /* the row at hand */
static char dir[64], path[96], bytes[BIG];
static char *self;
#define F row_fd[at]
#define ME seen[at]
/* The next call is the one that waits. */
#define WAIT(call) (ME.about = 1, (long)(call))

static void no_handler(int s) { (void)s; }
static void handles(int s) {
    struct sigaction a = {.sa_handler = no_handler};
    MUST(sigaction(s, &a, NULL) == 0);
}
static sigset_t set_of(int s) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, s);
    return set;
}
static void usr1(void) { MUST(kill(row_pid[at], SIGUSR1) == 0); }
static void one_byte(void) { MUST(write(F[1], "x", 1) == 1); }
static const char *file(const char *name) {
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}
static struct timespec in(int clock, int s) {
    struct timespec t;
    MUST(clock_gettime(clock, &t) == 0);
    t.tv_sec += s;
    return t;
}

static void a_pipe(void) { MUST(pipe(F) == 0); }
static long reads(void) {
    char c;
    return WAIT(read(F[0], &c, 1));
}
static long polls(void) {
    struct pollfd p = {F[0], POLLIN, 0};
    return WAIT(poll(&p, 1, LONG_S * 1000)) * 100 + p.revents;
}
static long ppolls(void) {
    struct pollfd p = {F[0], POLLIN, 0};
    struct timespec t = {LONG_S, 0};
    sigset_t set = set_of(SIGUSR2);
    return WAIT(ppoll(&p, 1, &t, &set)) * 100 + p.revents;
}
static long selects(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(F[0], &set);
    struct timeval t = {LONG_S, 0};
    return WAIT(select(F[0] + 1, &set, NULL, NULL, &t)) * 10 + (FD_ISSET(F[0], &set) != 0);
}
static long epolls(void) {
    int e = epoll_create1(0);
    struct epoll_event v = {.events = EPOLLIN | EPOLLET, .data.u64 = 77}, got = {0};
    MUST(epoll_ctl(e, EPOLL_CTL_ADD, F[0], &v) == 0);
    return WAIT(epoll_wait(e, &got, 1, -1)) * 100 + (long)got.data.u64;
}
static long splices(void) {
    int to[2];
    MUST(pipe(to) == 0);
    return WAIT(splice(F[0], NULL, to[1], NULL, 10, 0));
}

static void a_full_pipe(void) {
    MUST(pipe2(F, O_NONBLOCK) == 0);
    while (write(F[1], bytes, 4096) == 4096)
        ;
    MUST(fcntl(F[1], F_SETFL, 0) == 0);
}
static long writes(void) { return WAIT(write(F[1], "z", 1)); }
static void drain(void) {
    while (read(F[0], bytes, 4096) == 4096)
        ;
}
/* More than a pipe holds: a part of it is written at the cut. */
static long writes_much(void) {
    for (int i = 0; i < BIG; i++)
        bytes[i] = (char)(i * 7 + i / 251);
    return WAIT(write(F[1], bytes, BIG));
}
static void takes_much(void) {
    int n = 0, wrong = 0;
    while (n < BIG) {
        ssize_t r = read(F[0], bytes, sizeof bytes);
        MUST(r > 0);
        for (ssize_t i = 0; i < r; i++, n++)
            wrong += bytes[i] != (char)(n * 7 + n / 251);
    }
    SHOW(wrong);
}

/* Descriptors in flight on a full socket, and one more that waits for room. */
static ssize_t sends_fd(int s, int fd) {
    char c = 'd', control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec v = {&c, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    return sendmsg(s, &m, MSG_NOSIGNAL);
}
static int pipe_with(const char *text) {
    int p[2];
    MUST(pipe(p) == 0 && write(p[1], text, strlen(text)) == (ssize_t)strlen(text));
    close(p[1]);
    return p[0];
}
static void a_full_socket(void) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, F) == 0);
    int fd = pipe_with("first in flight");
    MUST(sends_fd(F[1], fd) == 1);
    close(fd);
    while (send(F[1], bytes, 4096, MSG_DONTWAIT) > 0)
        ;
    while (send(F[1], bytes, 1, MSG_DONTWAIT) > 0)
        ;
}
static long sends_rights(void) {
    int fd = pipe_with("second in flight");
    return WAIT(sends_fd(F[1], fd));
}
static void takes_rights(void) {
    for (int found = 0; found < 2;) {
        char control[CMSG_SPACE(sizeof(int))], text[64] = {0};
        struct iovec v = {bytes, sizeof bytes};
        struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        MUST(recvmsg(F[0], &m, 0) > 0);
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        if (!h)
            continue;
        int fd;
        memcpy(&fd, CMSG_DATA(h), sizeof fd);
        MUST(read(fd, text, sizeof text) > 0);
        close(fd);
        printf("descriptor %d: %s\n", ++found, text);
    }
}

static void a_name(struct sockaddr_un *a, const char *name) {
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    strcpy(a->sun_path, file(name));
}
static void a_listener(const char *name) {
    struct sockaddr_un a;
    a_name(&a, name);
    F[0] = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(bind(F[0], (void *)&a, sizeof a) == 0 && listen(F[0], 0) == 0);
}
static int connects_to(const char *name) {
    struct sockaddr_un a;
    a_name(&a, name);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(connect(s, (void *)&a, sizeof a) == 0);
    return s;
}
static void unix_listener(void) { a_listener("listener"); }
static long accepts(void) {
    int s = (int)WAIT(accept(F[0], NULL, NULL));
    return s < 0 ? -1 : read(s, bytes, 100);
}
static void unix_connects(void) { MUST(write(connects_to("listener"), "12345", 5) == 5); }
static void full_listener(void) {
    a_listener("full");
    F[1] = connects_to("full");
}
static long waits_to_connect(void) {
    struct sockaddr_un a;
    a_name(&a, "full");
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    long r = WAIT(connect(s, (void *)&a, sizeof a));
    return r < 0 ? -1 : write(s, "123", 3);
}
static void accepts_two(void) {
    MUST(accept(F[0], NULL, NULL) >= 0);
    int s = accept(F[0], NULL, NULL);
    MUST(s >= 0);
    SHOW(read(s, bytes, 100));
}
static void tcp_listener(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    F[0] = socket(AF_INET, SOCK_STREAM, 0);
    MUST(bind(F[0], (void *)&a, sizeof a) == 0 && listen(F[0], 5) == 0);
}
static int tcp_to(int listener) {
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    MUST(getsockname(listener, (void *)&a, &n) == 0 && connect(s, (void *)&a, n) == 0);
    return s;
}
static void tcp_connects(void) { MUST(write(tcp_to(F[0]), "1234567", 7) == 7); }
static void tcp_pair(void) {
    tcp_listener();
    F[1] = tcp_to(F[0]);
    F[2] = accept(F[0], NULL, NULL);
    MUST(F[2] >= 0);
}
static long receives(void) { return WAIT(recv(F[2], bytes, 6, MSG_WAITALL)); }
static void tcp_sends(void) { MUST(send(F[1], "123456", 6, 0) == 6); }
static void datagrams(void) { MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, F) == 0); }
static long receives_one(void) { return WAIT(recv(F[0], bytes, 100, 0)); }
static void full_datagrams(void) {
    datagrams();
    while (send(F[1], "12345", 5, MSG_DONTWAIT) == 5)
        ;
}
static long sends_one(void) { return WAIT(send(F[1], "12345", 5, 0)); }
static void takes_all(void) {
    while (recv(F[0], bytes, 100, MSG_DONTWAIT) == 5)
        ;
}

static void blocks_usr1(void) {
    sigset_t set = set_of(SIGUSR1);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
}
static void unblocks_usr1(void) {
    sigset_t set = set_of(SIGUSR1);
    MUST(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
}
static long sigwaits(void) {
    blocks_usr1();
    sigset_t set = set_of(SIGUSR1);
    struct timespec t = {LONG_S, 0};
    siginfo_t i = {0};
    long r = WAIT(sigtimedwait(&set, &i, &t));
    return r * 10 + (i.si_pid == getppid());
}
static long suspends(void) {
    blocks_usr1();
    handles(SIGUSR1);
    sigset_t none;
    sigemptyset(&none);
    return WAIT(sigsuspend(&none));
}
static long pauses(void) {
    handles(SIGUSR1);
    return WAIT(pause());
}
static long naps(void) {
    handles(SIGUSR1);
    struct timespec t = {LONG_S, 0};
    long r = WAIT(nanosleep(&t, &t));
    MUST(r == -1 && errno == EINTR && t.tv_sec > LONG_S - 600 && t.tv_sec < LONG_S);
    errno = EINTR;
    return r;
}
static long naps_until(void) {
    handles(SIGUSR1);
    struct timespec t = in(CLOCK_MONOTONIC, LONG_S);
    long r = WAIT(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL));
    errno = (int)r;
    return r ? -1 : 0;
}
static long signalfds(void) {
    blocks_usr1();
    sigset_t set = set_of(SIGUSR1);
    struct signalfd_siginfo i;
    int fd = signalfd(-1, &set, 0);
    long r = WAIT(read(fd, &i, sizeof i));
    return r * 100 + i.ssi_signo;
}

static long futexes(void) {
    struct timespec t = {LONG_S, 0};
    return WAIT(futex(&ME.word, FUTEX_WAIT, 0, &t, NULL, 0));
}
static long futexes_until(void) {
    struct timespec t = in(CLOCK_MONOTONIC, LONG_S);
    return WAIT(futex(&ME.word, FUTEX_WAIT_BITSET, 0, &t, NULL, 4));
}
static void wakes(void) { SHOW(futex(&ME.word, FUTEX_WAKE, 1, NULL, NULL, 0)); }
static void wakes_bits(void) {
    SHOW(futex(&ME.word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 3));
    SHOW(futex(&ME.word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 12));
}
static void locks_pi(void) { MUST(futex(&ME.word, LOCK_PI, 0, NULL, NULL, 0) == 0); }
static long waits_pi(void) {
    long r = WAIT(futex(&ME.word, LOCK_PI, 0, NULL, NULL, 0));
    MUST((ME.word & 0x3fffffff) == getpid());
    return r == 0 ? futex(&ME.word, UNLOCK_PI, 0, NULL, NULL, 0) : -1;
}
static void unlocks_pi(void) { SHOW(futex(&ME.word, UNLOCK_PI, 0, NULL, NULL, 0)); }

static long waits_child(void) {
    pid_t p = fork();
    int st = 0;
    if (p == 0) {
        char c;
        MUST(read(F[0], &c, 1) == 1);
        _exit(7);
    }
    MUST(WAIT(waitpid(p, &st, 0)) == p);
    return WEXITSTATUS(st);
}
static long waits_stopped(void) {
    pid_t p = fork();
    siginfo_t i = {0};
    if (p == 0) {
        char c;
        MUST(read(F[0], &c, 1) == 1);
        raise(SIGSTOP);
        _exit(8);
    }
    MUST(WAIT(waitid(P_PID, (id_t)p, &i, WSTOPPED | WNOWAIT)) == 0 && i.si_status == SIGSTOP);
    kill(p, SIGCONT);
    wait_show("stopped child", p);
    return i.si_code == CLD_STOPPED;
}
/* The child of a vfork has its parent's memory, and has neither ended nor executed anything yet. */
static long vforks(void) {
    int st = 0;
    ME.about = 1;
    pid_t p = vfork();
    if (p == 0) {
        char c;
        ME.helper = getpid();
        ME.helper_about = 1;
        if (read(F[0], &c, 1) == 1)
            execl(self, self, "exec", "11", NULL);
        _exit(1);
    }
    MUST(waitpid(p, &st, 0) == p);
    return WEXITSTATUS(st);
}
static long stops(void) { return WAIT(raise(SIGSTOP)); }
static void continues(void) { MUST(kill(row_pid[at], SIGCONT) == 0); }

static struct flock whole(short type) { return (struct flock){.l_type = type, .l_whence = SEEK_SET}; }
static void locked_file(const char *name, int how) {
    struct flock l = whole(F_WRLCK);
    F[0] = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    MUST(F[0] >= 0 && (how ? fcntl(F[0], how, &l) : flock(F[0], LOCK_EX)) == 0);
}
static void posix_locked(void) { locked_file(file("posix"), F_SETLK); }
static void volume_locked(void) { locked_file("posix", F_SETLK); } /* the working directory */
static void ofd_locked(void) { locked_file(file("ofd"), F_OFD_SETLK); }
static void flocked(void) { locked_file(file("flock"), 0); }
static long waits_posix(void) {
    struct flock l = whole(F_WRLCK);
    return WAIT(fcntl(open(file("posix"), O_RDWR), F_SETLKW, &l));
}
static long waits_volume(void) {
    struct flock l = whole(F_WRLCK);
    return WAIT(fcntl(open("posix", O_RDWR), F_SETLKW, &l));
}
static long waits_ofd(void) {
    struct flock l = whole(F_WRLCK);
    return WAIT(fcntl(open(file("ofd"), O_RDWR), F_OFD_SETLKW, &l));
}
static long waits_flock(void) { return WAIT(flock(open(file("flock"), O_RDWR), LOCK_EX)); }
static void posix_unlocks(void) {
    struct flock l = whole(F_UNLCK);
    MUST(fcntl(F[0], F_SETLK, &l) == 0);
}
static void ofd_unlocks(void) {
    struct flock l = whole(F_UNLCK);
    MUST(fcntl(F[0], F_OFD_SETLK, &l) == 0);
}
static void funlocks(void) { MUST(flock(F[0], LOCK_UN) == 0); }

static void a_fifo(void) { MUST(mkfifo(file("fifo"), 0600) == 0); }
static long opens(void) {
    int fd = (int)WAIT(open(file("fifo"), O_RDONLY));
    return fd < 0 ? -1 : read(fd, bytes, 10);
}
static void opens_too(void) {
    int fd = open(file("fifo"), O_WRONLY);
    MUST(fd >= 0 && write(fd, "1234", 4) == 4);
    close(fd);
}
static void queue(void) { MUST((F[0] = msgget(IPC_PRIVATE, 0600)) >= 0); }
static long msgreceives(void) {
    struct { long type; char text[8]; } m;
    return WAIT(msgrcv(F[0], &m, sizeof m.text, 5, 0));
}
static void msgsends(void) {
    struct { long type; char text[8]; } m = {3, "other"};
    MUST(msgsnd(F[0], &m, 5, 0) == 0);
    m.type = 5;
    MUST(msgsnd(F[0], &m, 8, 0) == 0);
}
static void msgqueue_ends(void) { msgctl(F[0], IPC_RMID, NULL); }
static void semaphore(void) { MUST((F[0] = semget(IPC_PRIVATE, 1, 0600)) >= 0); }
static long semwaits(void) {
    struct sembuf b = {0, -2, SEM_UNDO};
    return WAIT(semop(F[0], &b, 1));
}
static void semposts(void) {
    struct sembuf b = {0, 1, 0};
    MUST(semop(F[0], &b, 1) == 0 && semop(F[0], &b, 1) == 0);
}
static long mq_reads(void) {
    char m[64];
    return WAIT(mq_receive(F[0], m, sizeof m, NULL));
}
static void mq(void) {
    struct mq_attr a = {.mq_maxmsg = 2, .mq_msgsize = 64};
    char name[32];
    snprintf(name, sizeof name, "/held-%d", getpid());
    MUST((F[0] = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &a)) >= 0);
    mq_unlink(name);
}
static void mq_sends(void) { MUST(mq_send(F[0], "123456789", 9, 1) == 0); }
static void an_eventfd(void) { MUST((F[0] = eventfd(0, 0)) >= 0); }
static long reads_number(void) {
    uint64_t n = 0;
    return WAIT(read(F[0], &n, sizeof n)) * 100 + (long)n;
}
static void counts(void) { MUST(eventfd_write(F[0], 42) == 0); }
static void a_timerfd(void) {
    struct itimerspec t = {.it_value = {LONG_S, 0}};
    MUST((F[0] = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0 && timerfd_settime(F[0], 0, &t, NULL) == 0);
}
static void timer_ends(void) {
    struct itimerspec t;
    MUST(timerfd_gettime(F[0], &t) == 0);
    CHECK(t.it_value.tv_sec > LONG_S - 600 && t.it_value.tv_sec < LONG_S);
    t = (struct itimerspec){.it_value = {0, 1}};
    MUST(timerfd_settime(F[0], 0, &t, NULL) == 0);
}
static void a_watch(void) { MUST((F[0] = inotify_init1(0)) >= 0 && inotify_add_watch(F[0], dir, IN_CREATE) >= 0); }
static long hears(void) {
    union { struct inotify_event e; char b[300]; } u;
    return WAIT(read(F[0], &u, sizeof u)) > 0 && strcmp(u.e.name, "made") == 0;
}
static void makes(void) { put_file(file("made"), ""); }
static void a_terminal(void) {
    char name[64];
    MUST((F[1] = posix_openpt(O_RDWR | O_NOCTTY)) >= 0 && grantpt(F[1]) == 0 && unlockpt(F[1]) == 0);
    MUST(ptsname_r(F[1], name, sizeof name) == 0 && (F[0] = open(name, O_RDWR | O_NOCTTY)) >= 0);
    MUST(write(F[1], "half a ", 7) == 7);
}
static long reads_line(void) { return WAIT(read(F[0], bytes, 100)); }
static void types(void) { MUST(write(F[1], "line\n", 5) == 5); }

static struct row rows[] = {
    {"read, pipe", a_pipe, reads, one_byte, "S"},
    {"poll", a_pipe, polls, one_byte, "S"},
    {"ppoll", a_pipe, ppolls, one_byte, "S"},
    {"select", a_pipe, selects, one_byte, "S"},
    {"epoll_wait", a_pipe, epolls, one_byte, "S"},
    {"splice", a_pipe, splices, one_byte, "S"},
    {"write, full pipe", a_full_pipe, writes, drain, "S"},
    {"write, more than the pipe holds", a_pipe, writes_much, takes_much, "S"},
    {"sendmsg, descriptors in flight", a_full_socket, sends_rights, takes_rights, "S"},
    {"accept, unix", unix_listener, accepts, unix_connects, "S"},
    {"connect, full backlog", full_listener, waits_to_connect, accepts_two, "S"},
    {"accept, tcp", tcp_listener, accepts, tcp_connects, "S"},
    {"recv, tcp", tcp_pair, receives, tcp_sends, "S"},
    {"recv, datagrams", datagrams, receives_one, one_byte, "S"},
    {"send, full datagrams", full_datagrams, sends_one, takes_all, "S"},
    {"sigtimedwait", unblocks_usr1, sigwaits, usr1, "S"},
    {"sigsuspend", unblocks_usr1, suspends, usr1, "S"},
    {"pause", unblocks_usr1, pauses, usr1, "S"},
    {"nanosleep", unblocks_usr1, naps, usr1, "S"},
    {"clock_nanosleep", unblocks_usr1, naps_until, usr1, "S"},
    {"signalfd", unblocks_usr1, signalfds, usr1, "S"},
    {"futex", unblocks_usr1, futexes, wakes, "S"},
    {"futex, bits", unblocks_usr1, futexes_until, wakes_bits, "S"},
    {"futex, lock", locks_pi, waits_pi, unlocks_pi, "S"},
    {"waitpid", a_pipe, waits_child, one_byte, "S"},
    {"waitid", a_pipe, waits_stopped, one_byte, "S"},
    {"vfork", a_pipe, vforks, one_byte, "SD"},
    {"stopped", unblocks_usr1, stops, continues, "T"},
    {"fcntl, lock", posix_locked, waits_posix, posix_unlocks, "S"},
    {"fcntl, lock on a volume", volume_locked, waits_volume, posix_unlocks, "S"},
    {"fcntl, lock of a description", ofd_locked, waits_ofd, ofd_unlocks, "S"},
    {"flock", flocked, waits_flock, funlocks, "S"},
    {"open, fifo", a_fifo, opens, opens_too, "S"},
    {"msgrcv", queue, msgreceives, msgsends, "S"},
    {"semop", semaphore, semwaits, semposts, "S"},
    {"mq_receive", mq, mq_reads, mq_sends, "S"},
    {"eventfd", an_eventfd, reads_number, counts, "S"},
    {"timerfd", a_timerfd, reads_number, timer_ends, "S"},
    {"inotify", a_watch, hears, makes, "S"},
    {"read, terminal", a_terminal, reads_line, types, "S"},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static void all_wait(void) {
    for (at = 0; at < ROWS; at++) {
        await_state(&ME.about, row_pid[at], row_pid[at], rows[at].states);
        if (rows[at].wait != vforks)
            continue;
        while (!ME.helper_about)
            sleep_ms(1);
        await_state(&ME.helper_about, ME.helper, ME.helper, "S");
    }
    for (at = 0; at < ROWS; at++) {
        MUST(!ME.ended);
    }
}

int main(int argc, char **argv) {
    if (argc > 2) /* executed by the child of the vfork */
        return atoi(argv[2]);
    self = argv[0];
    strcpy(dir, "/tmp/ftl-held-XXXXXX");
    MUST(mkdtemp(dir));
    seen = shared(sizeof *seen * ROWS);
    for (at = 0; at < ROWS; at++) {
        rows[at].make();
        fflush(stdout);
        if ((row_pid[at] = fork()) == 0) {
            errno = 0;
            ME.result = rows[at].wait();
            ME.error = errno;
            ME.ended = 1;
            child_exit(0);
        }
    }
    all_wait();
    held("all of them wait");
    all_wait();
    held("all of them wait, from a snapshot");
    all_wait();
    held("all of them wait, from a snapshot of that");
    all_wait();
    for (at = 0; at < ROWS; at++) {
        rows[at].release();
        int st = 0;
        MUST(waitpid(row_pid[at], &st, 0) == row_pid[at]);
        if (ME.result == -1)
            printf("%s: %s", rows[at].name, err_name(ME.error));
        else
            printf("%s = %ld", rows[at].name, ME.result);
        show_status("", st);
        if (rows[at].make == queue)
            msgqueue_ends();
        if (rows[at].make == semaphore)
            semctl(F[0], 0, IPC_RMID);
    }
    char rm[128];
    snprintf(rm, sizeof rm, "rm -r %s", dir);
    SHOW(system(rm));
    return done();
}
