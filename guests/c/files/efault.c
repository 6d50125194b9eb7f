// modes: static dynamic musl
// Every call that takes a pointer answers EFAULT for a bad one.
#include "../common.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>

int main(void) {
    long bad = (long)BAD;
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    MUST(write(fd, "abc", 3) == 3);
    lseek(fd, 0, SEEK_SET);
    int p[2], s[2], ep = epoll_create1(0);
    MUST(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && write(p[1], "x", 1) == 1 && write(s[1], "x", 1) == 1);
#define F(name, ...) printf("%-16s %s\n", #name, syscall(SYS_##name, __VA_ARGS__) == -1 ? err_name(errno) : "succeeded")
    F(read, fd, bad, 1L);
    F(write, fd, bad, 1L);
    F(open, bad, 0);
    F(stat, bad, bad);
    F(poll, bad, 1, 0);
    F(readv, fd, bad, 1);
    F(access, bad, 0);
    F(pipe, bad);
    F(select, 1, bad, 0, 0, 0);
    F(nanosleep, bad, 0);
    F(getitimer, 0, bad);
    F(setitimer, 0, bad, 0);
    F(connect, s[0], bad, 16);
    F(accept, s[0], bad, bad);
    F(sendto, s[0], bad, 1L, 0, 0, 0);
    F(recvfrom, s[0], bad, 1L, 0, 0, 0);
    F(sendmsg, s[0], bad, 0);
    F(recvmsg, s[0], bad, 0);
    F(bind, s[0], bad, 16);
    F(getsockname, s[0], bad, bad);
    F(socketpair, AF_UNIX, SOCK_STREAM, 0, bad);
    F(setsockopt, s[0], SOL_SOCKET, SO_KEEPALIVE, bad, 4);
    F(getsockopt, s[0], SOL_SOCKET, SO_KEEPALIVE, bad, bad);
    F(wait4, -1, bad, 0, 0);
    F(uname, bad);
    F(getdents64, fd, bad, 100L);
    F(getcwd, bad, 100L);
    F(rename, bad, "x");
    F(mkdir, bad, 0);
    F(symlink, "x", bad);
    F(readlink, bad, bad, 1L);
    F(gettimeofday, bad, 0);
    F(getrlimit, 0, bad);
    F(getrusage, 0, bad);
    F(sysinfo, bad);
    F(times, bad);
    F(rt_sigaction, SIGUSR1, bad, 0, 8L);
    F(rt_sigprocmask, 0, bad, 0, 8L);
    F(rt_sigpending, bad, 8L);
    F(sigaltstack, bad, 0);
    F(statfs, ".", bad);
    F(prlimit64, 0, 0, bad, 0);
    F(clock_gettime, 0, bad);
    F(clock_getres, 0, bad);
    F(epoll_ctl, ep, 1, p[0], bad);
    F(timer_create, 0, 0, bad);
    F(sched_getaffinity, 0, 8L, bad);
    F(getgroups, 10, bad);
    F(getresuid, bad, bad, bad);
    F(execve, bad, 0, 0);
    F(futex, bad, 0, 0, 0, 0, 0);
    struct epoll_event ev = {.events = EPOLLIN};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev) == 0);
    F(epoll_wait, ep, bad, 1, 0);
    return done();
}
