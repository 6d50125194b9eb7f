/* Tracing: attach, calls, steps, registers, memory, signals, events, as strace and gdb do it. */
#include "../common.h"
#include <elf.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#define X(req, pid, a, d) syscall(SYS_ptrace, (long)(req), (long)(pid), (long)(a), (long)(d))

/* struct ptrace_syscall_info */
struct call_info {
    uint8_t op, pad[3];
    uint32_t arch;
    uint64_t instruction_pointer, stack_pointer;
    union {
        struct { uint64_t nr, args[6]; } entry;
        struct { int64_t rval; uint8_t is_error; } exit;
    };
};

static volatile long shared = 5;
static const char fixed[] = "constant text that lies in a read-only page";

static void status(const char *what, int st) {
    if (WIFSTOPPED(st))
        printf("%s: stopped by %s%s event %d\n", what, sig_name(WSTOPSIG(st) & 0x7f), WSTOPSIG(st) & 0x80 ? "|80" : "",
               st >> 16);
    else if (WIFSIGNALED(st))
        printf("%s: killed by %s\n", what, sig_name(WTERMSIG(st)));
    else
        printf("%s: exit %d\n", what, WEXITSTATUS(st));
}
static int await(const char *what, pid_t pid) {
    int st = 0;
    MUST(waitpid(pid, &st, __WALL) == pid);
    status(what, st);
    return st;
}
static long word(pid_t pid, const volatile void *at) {
    errno = 0;
    return ptrace(PTRACE_PEEKDATA, pid, at, NULL);
}
static void *none(void *p) { return p; }

static __attribute__((noinline)) long add(long a, long b) {
    __asm__ volatile("" ::: "memory");
    return a + b;
}

/* Calls, values, changed and skipped calls. */
static void calls(void) {
    pid_t pid = fork();
    if (pid == 0) {
        MUST(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        raise(SIGSTOP);
        long a = syscall(SYS_getppid), b = syscall(SYS_getpgid, 0);
        int e = errno;
        long c = syscall(SYS_dup, 77);
        MUST(a == 4242);
        MUST(b == -1 && e == EXDEV);
        MUST(c == -1);
        _exit(7);
    }
    await("traceme", pid);
    SHOW(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
    SHOW(ptrace(PTRACE_SETOPTIONS, pid, 0, 1 << 30));
    for (int i = 0; i < 20; i++) {
        MUST(ptrace(PTRACE_SYSCALL, pid, 0, 0) == 0);
        int st;
        MUST(waitpid(pid, &st, __WALL) == pid);
        if (!WIFSTOPPED(st)) {
            status("calls", st);
            break;
        }
        if (WSTOPSIG(st) != (SIGTRAP | 0x80)) {
            status("odd", st);
            continue;
        }
        struct call_info info;
        memset(&info, 0, sizeof info);
        long n = X(0x420e, pid, sizeof info, &info);
        unsigned long msg = 9;
        MUST(ptrace(PTRACE_GETEVENTMSG, pid, 0, &msg) == 0);
        struct user_regs_struct r;
        MUST(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0);
        CHECK(info.instruction_pointer == r.rip && info.stack_pointer == r.rsp);
        if (info.op == 1) {
            CHECK(info.entry.nr == r.orig_rax && (long)r.rax == -ENOSYS);
            if (info.entry.nr == SYS_exit_group)
                printf("enter exit_group %ld msg %lu size %ld\n", (long)info.entry.args[0], msg, n);
            else
                printf("enter %d msg %lu size %ld\n", (int)info.entry.nr, msg, n);
            if (info.entry.nr == SYS_getpgid) {
                /* Not made at all. */
                r.orig_rax = -1;
                r.rax = -EXDEV;
                MUST(ptrace(PTRACE_SETREGS, pid, 0, &r) == 0);
            } else if (info.entry.nr == SYS_dup) {
                /* Another call in its place. */
                MUST(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), 5555) == 0);
            }
        } else {
            bool mine = r.orig_rax == SYS_getppid;
            printf("exit %s error %d msg %lu size %ld\n", mine ? "a pid" : err_name((int)-info.exit.rval),
                   info.exit.is_error, msg, n);
            if (mine)
                MUST(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rax), 4242) == 0);
        }
    }
}

/* Memory and registers. */
static void memory(void) {
    pid_t pid = fork();
    if (pid == 0) {
        MUST(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        raise(SIGSTOP);
        _exit(shared == 6 && *(const volatile char *)fixed == 'C' && add(2, 3) == 5 ? 0 : 1);
    }
    await("stop", pid);
    CHECK(word(pid, &shared) == 5);
    SHOW(ptrace(PTRACE_POKEDATA, pid, &shared, 6L));
    CHECK(word(pid, &shared) == 6 && shared == 5);
    long text = word(pid, fixed);
    CHECK(memcmp(&text, fixed, 8) == 0);
    text = (text & ~0xffL) | 'C';
    SHOW(ptrace(PTRACE_POKEDATA, pid, fixed, text));
    CHECK(word(pid, fixed) == text && fixed[0] == 'c');
    SHOW(word(pid, (void *)16));
    SHOW(ptrace(PTRACE_POKEDATA, pid, 16, 1));
    SHOW(X(PTRACE_PEEKUSER, pid, 3, &text));
    SHOW(X(PTRACE_PEEKUSER, pid, 100000, &text));
    siginfo_t si;
    MUST(ptrace(PTRACE_GETSIGINFO, pid, 0, &si) == 0);
    printf("%s code %d\n", sig_name(si.si_signo), si.si_code);
    CHECK(si.si_pid == pid);

    struct iovec iov = {NULL, 0};
    struct user_regs_struct r, s;
    iov = (struct iovec){&r, sizeof r};
    SHOW(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &iov));
    printf("length %zu\n", iov.iov_len);
    MUST(ptrace(PTRACE_GETREGS, pid, 0, &s) == 0);
    CHECK(memcmp(&r, &s, sizeof r) == 0);
    CHECK(r.cs == 0x33 && r.ss == 0x2b);
    SHOW(ptrace(PTRACE_GETREGSET, pid, 0x999, &iov));
    struct user_fpregs_struct f;
    MUST(ptrace(PTRACE_GETFPREGS, pid, 0, &f) == 0);
    printf("mxcsr %x cwd %x\n", f.mxcsr, f.cwd);
    SHOW(ptrace(PTRACE_SETFPREGS, pid, 0, &f));
    static char x[16384];
    iov = (struct iovec){x, sizeof x};
    SHOW(ptrace(PTRACE_GETREGSET, pid, 0x202, &iov));
    CHECK(iov.iov_len >= 576 && memcmp(x, &f, 416) == 0);
    uint64_t mask = 0;
    SHOW(X(0x420a, pid, 8, &mask));
    SHOW(X(0x420a, pid, 4, &mask));

    /* A call of a function of the tracee, as a debugger makes one: int3 where it returns to. */
    long code = word(pid, none);
    MUST(ptrace(PTRACE_POKETEXT, pid, none, (code & ~0xffL) | 0xcc) == 0);
    s.rdi = 20;
    s.rsi = 22;
    s.rip = (uintptr_t)add;
    s.rsp = ((s.rsp - 256) & ~15UL) - 8;
    s.orig_rax = -1;
    MUST(ptrace(PTRACE_POKEDATA, pid, s.rsp, none) == 0);
    MUST(ptrace(PTRACE_SETREGS, pid, 0, &s) == 0);
    SHOW(ptrace(PTRACE_CONT, pid, 0, 0));
    await("called", pid);
    MUST(ptrace(PTRACE_GETREGS, pid, 0, &s) == 0);
    printf("result %ld at +%ld\n", (long)s.rax, (long)(s.rip - (uintptr_t)none));
    MUST(ptrace(PTRACE_GETSIGINFO, pid, 0, &si) == 0);
    printf("%s code %d\n", sig_name(si.si_signo), si.si_code);
    MUST(ptrace(PTRACE_POKETEXT, pid, none, code) == 0);
    MUST(ptrace(PTRACE_SETREGS, pid, 0, &r) == 0);
    SHOW(ptrace(PTRACE_CONT, pid, 0, 0));
    await("end", pid);
    SHOW(ptrace(PTRACE_CONT, pid, 0, 0));
}

/* Steps, over a call too. */
static void steps(void) {
    pid_t pid = fork();
    if (pid == 0) {
        MUST(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        __asm__ volatile("int3\n nop\n nop\n mov $39, %%eax\n syscall\n nop\n int3\n" ::: "rax", "rcx", "r11", "memory");
        _exit(3);
    }
    await("int3", pid);
    struct user_regs_struct r;
    MUST(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0);
    unsigned long at = r.rip;
    for (int i = 0; i < 5; i++) {
        MUST(ptrace(PTRACE_SINGLESTEP, pid, 0, 0) == 0);
        int st;
        MUST(waitpid(pid, &st, 0) == pid && WIFSTOPPED(st) && WSTOPSIG(st) == SIGTRAP);
        siginfo_t si;
        MUST(ptrace(PTRACE_GETSIGINFO, pid, 0, &si) == 0);
        MUST(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0);
        printf("+%lu %s flag %d\n", (unsigned long)(r.rip - at), i == 3 ? "call" : si.si_code == TRAP_TRACE ? "trace" : "other",
               (int)(r.eflags >> 8 & 1));
        if (i == 3)
            CHECK((pid_t)r.rax == pid);
        at = r.rip;
    }
    MUST(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    await("second int3", pid);
    SHOW(ptrace(PTRACE_CONT, pid, 0, 99));
    SHOW(ptrace(PTRACE_CONT, pid, 0, 0));
    await("end", pid);
}

static volatile int caught;
static void on_signal(int s, siginfo_t *i, void *u) {
    (void)u;
    caught = s * 1000 + (i->si_code == SI_QUEUE);
}

/* Signals: seen, suppressed, changed, put in. */
static void signals(void) {
    pid_t pid = fork();
    if (pid == 0) {
        struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
        for (int s = SIGUSR1; s <= SIGUSR2; s++)
            sigaction(s, &sa, NULL);
        signal(SIGCHLD, SIG_IGN);
        MUST(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        raise(SIGUSR1);
        printf("suppressed: %d\n", caught);
        raise(SIGUSR1);
        printf("changed: %d\n", caught / 1000 == SIGUSR2);
        raise(SIGCHLD);
        struct timespec t = {500, 0};
        int r = nanosleep(&t, NULL);
        printf("slept %s caught %d\n", r == -1 ? err_name(errno) : "all", caught / 1000 == SIGUSR1);
        raise(SIGTERM);
        printf("lives\n");
        kill(getpid(), SIGKILL);
    }
    await("usr1", pid);
    ptrace(PTRACE_CONT, pid, 0, 0);
    await("usr1", pid);
    ptrace(PTRACE_CONT, pid, 0, SIGUSR2);
    await("ignored", pid);
    ptrace(PTRACE_CONT, pid, 0, SIGCHLD);
    while (state_of(pid, pid) != 'S')
        usleep(1000);
    kill(pid, SIGUSR1);
    await("in a sleep", pid);
    struct user_regs_struct r;
    MUST(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0);
    printf("rax %ld\n", (long)r.rax == -516 || (long)r.rax == -514 ? -516 : (long)r.rax);
    ptrace(PTRACE_CONT, pid, 0, SIGUSR1);
    await("term", pid);
    ptrace(PTRACE_CONT, pid, 0, 0);
    await("kill", pid);
}

/* What a tracer gets with the children of its tracee. */
static void events(void) {
    pid_t pid = fork();
    if (pid == 0) {
        MUST(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        raise(SIGSTOP);
        pid_t q = fork();
        if (q == 0)
            _exit(4);
        int st;
        waitpid(q, &st, 0);
        q = vfork();
        if (q == 0)
            _exit(5);
        waitpid(q, &st, 0);
        execl("/bin/true", "true", NULL);
        _exit(9);
    }
    await("stop", pid);
    SHOW(ptrace(PTRACE_SETOPTIONS, pid, 0,
                PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXEC |
                    PTRACE_O_TRACEEXIT));
    ptrace(PTRACE_CONT, pid, 0, 0);
    pid_t child = 0;
    for (int i = 0; i < 30; i++) {
        /* The child's first stop and its parent's event may come in either order: each is asked for by name. */
        int st = await("parent", pid);
        if (!WIFSTOPPED(st))
            break;
        int event = st >> 16;
        unsigned long msg = 0;
        MUST(ptrace(PTRACE_GETEVENTMSG, pid, 0, &msg) == 0);
        if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK) {
            child = (pid_t)msg;
            await(" child", child);
            ptrace(PTRACE_CONT, child, 0, 0);
            await(" child", child);
            MUST(ptrace(PTRACE_GETEVENTMSG, child, 0, &msg) == 0);
            printf(" exits with %lx\n", msg);
            ptrace(PTRACE_CONT, child, 0, 0);
            if (event == PTRACE_EVENT_FORK)
                await(" child", child);
        } else if (event == PTRACE_EVENT_VFORK_DONE)
            CHECK((pid_t)msg == child);
        else if (event == PTRACE_EVENT_EXEC)
            CHECK((pid_t)msg == pid);
        else if (event == PTRACE_EVENT_EXIT)
            printf("exits with %lx\n", msg);
        if (event == PTRACE_EVENT_VFORK)
            await(" child", child);
        int signo = event ? 0 : WSTOPSIG(st);
        ptrace(PTRACE_CONT, pid, 0, signo);
    }
}

/* Attaching to what runs, seizing, interrupting, group stops, letting go. */
static void attaching(void) {
    int p[2];
    MUST(pipe(p) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        close(p[1]);
        long n = read(p[0], &c, 1);
        _exit(n == 1 ? 11 : 12);
    }
    SHOW(ptrace(PTRACE_ATTACH, getpid(), 0, 0));
    SHOW(ptrace(PTRACE_CONT, pid, 0, 0));
    usleep(20000);
    SHOW(ptrace(PTRACE_ATTACH, pid, 0, 0));
    SHOW(ptrace(PTRACE_ATTACH, pid, 0, 0));
    await("attached", pid);
    SHOW(ptrace(PTRACE_INTERRUPT, pid, 0, 0));
    SHOW(ptrace(PTRACE_DETACH, pid, 0, 0));
    SHOW(ptrace(PTRACE_CONT, pid, 0, 0));
    SHOW(ptrace(PTRACE_SEIZE, pid, 1, 0));
    SHOW(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD));
    SHOW(ptrace(PTRACE_INTERRUPT, pid, 0, 0));
    await("interrupted", pid);
    SHOW(ptrace(PTRACE_LISTEN, pid, 0, 0));
    int st;
    SHOW(ptrace(PTRACE_CONT, pid, 0, 0));
    SHOW(ptrace(PTRACE_INTERRUPT, pid, 0, 0));
    await("again", pid);
    ptrace(PTRACE_CONT, pid, 0, 0);
    kill(pid, SIGSTOP);
    await("stop signal", pid);
    ptrace(PTRACE_CONT, pid, 0, SIGSTOP);
    await("group stop", pid);
    siginfo_t si;
    SHOW(ptrace(PTRACE_GETSIGINFO, pid, 0, &si));
    SHOW(ptrace(PTRACE_LISTEN, pid, 0, 0));
    SHOW(ptrace(PTRACE_CONT, pid, 0, 0));
    kill(pid, SIGCONT);
    await("continued", pid);
    ptrace(PTRACE_CONT, pid, 0, 0);
    await("sigcont", pid);
    ptrace(PTRACE_CONT, pid, 0, SIGCONT);
    MUST(write(p[1], "x", 1) == 1);
    await("end", pid);
    /* A tracer that ends frees its tracee, or kills it. */
    for (int kill_it = 0; kill_it < 2; kill_it++) {
        pid_t q = fork();
        if (q == 0) {
            for (;;)
                pause();
        }
        pid_t tracer = fork();
        if (tracer == 0) {
            MUST(ptrace(PTRACE_SEIZE, q, 0, kill_it ? PTRACE_O_EXITKILL : 0) == 0);
            MUST(ptrace(PTRACE_INTERRUPT, q, 0, 0) == 0);
            MUST(waitpid(q, &st, __WALL) == q);
            _exit(0);
        }
        await("tracer", tracer);
        if (!kill_it) {
            CHECK(kill(q, 0) == 0 && waitpid(q, &st, WNOHANG) == 0);
            kill(q, SIGTERM);
        }
        await("tracee", q);
    }
}

static volatile long watched;

/* A watchpoint in the debug registers, and a breakpoint. */
static void watching(void) {
    pid_t pid = fork();
    if (pid == 0) {
        MUST(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        raise(SIGSTOP);
        for (int i = 0; i < 3; i++) {
            shared++;
            if (i == 1)
                watched = 1234;
        }
        add(1, 2);
        _exit(watched == 1234 ? 6 : 1);
    }
    await("stop", pid);
    unsigned long dr = offsetof(struct user, u_debugreg);
    SHOW(ptrace(PTRACE_PEEKUSER, pid, dr + 7 * 8, 0));
    SHOW(ptrace(PTRACE_POKEUSER, pid, dr, &watched));
    SHOW(ptrace(PTRACE_POKEUSER, pid, dr + 7 * 8, 1UL | 1UL << 16 | 2UL << 18));
    CHECK((void *)ptrace(PTRACE_PEEKUSER, pid, dr, 0) == &watched);
    SHOW(ptrace(PTRACE_CONT, pid, 0, 0));
    await("watchpoint", pid);
    siginfo_t si;
    MUST(ptrace(PTRACE_GETSIGINFO, pid, 0, &si) == 0);
    printf("code %d dr6 %lx value %ld\n", si.si_code, ptrace(PTRACE_PEEKUSER, pid, dr + 6 * 8, 0) & 15, word(pid, &watched));
    SHOW(ptrace(PTRACE_POKEUSER, pid, dr + 6 * 8, 0));
    SHOW(ptrace(PTRACE_POKEUSER, pid, dr + 7 * 8, 0));
    SHOW(ptrace(PTRACE_POKEUSER, pid, dr + 8, add));
    SHOW(ptrace(PTRACE_POKEUSER, pid, dr + 7 * 8, 4UL));
    SHOW(ptrace(PTRACE_CONT, pid, 0, 0));
    await("breakpoint", pid);
    struct user_regs_struct r;
    MUST(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0);
    CHECK(r.rip == (uintptr_t)add);
    printf("dr6 %lx flags %d\n", ptrace(PTRACE_PEEKUSER, pid, dr + 6 * 8, 0) & 15, (int)(r.eflags >> 8 & 1));
    SHOW(ptrace(PTRACE_POKEUSER, pid, dr + 7 * 8, 0));
    SHOW(ptrace(PTRACE_CONT, pid, 0, 0));
    await("end", pid);
}

/* Memory by the other calls. */
static void vm(void) {
    pid_t pid = fork();
    if (pid == 0) {
        shared = 77;
        for (;;)
            pause();
    }
    while (state_of(pid, pid) != 'S')
        usleep(1000);
    long got[3] = {0, 0, 0}, put = 78;
    struct iovec l[2] = {{got, 8}, {got + 1, 16}}, r[2] = {{(void *)&shared, 8}, {(void *)fixed, 16}};
    SHOW(process_vm_readv(pid, l, 2, r, 2, 0));
    CHECK(got[0] == 77 && memcmp(got + 1, fixed, 16) == 0);
    r[1].iov_base = (void *)16;
    SHOW(process_vm_readv(pid, l, 2, r, 2, 0));
    SHOW(process_vm_readv(pid, l, 1, r + 1, 1, 0));
    SHOW(process_vm_readv(pid, l, 1, r, 1, 1));
    SHOW(process_vm_readv(999999, l, 1, r, 1, 0));
    l[0].iov_base = &put;
    SHOW(process_vm_writev(pid, l, 1, r, 1, 0));
    l[0].iov_base = got;
    SHOW(process_vm_readv(pid, l, 1, r, 1, 0));
    CHECK(got[0] == 78 && shared == 5);
    r[0].iov_base = (void *)fixed;
    SHOW(process_vm_writev(pid, l, 1, r, 1, 0));
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int fd = open(path, O_RDWR);
    MUST(fd >= 0);
    SHOW(pread(fd, got, 8, (uintptr_t)&shared));
    CHECK(got[0] == 78);
    put = 79;
    SHOW(pwrite(fd, &put, 8, (uintptr_t)&shared));
    SHOW(pwrite(fd, "CONST", 5, (uintptr_t)fixed));
    SHOW(lseek(fd, (off_t)(uintptr_t)fixed, SEEK_SET) > 0);
    char text[8] = "";
    SHOW(read(fd, text, 7));
    printf("%s\n", text);
    SHOW(pread(fd, got, 8, 16));
    SHOW(pread(fd, got, 0, 16));
    CHECK(process_vm_readv(pid, &(struct iovec){got, 8}, 1, &(struct iovec){(void *)&shared, 8}, 1, 0) == 8 && got[0] == 79);
    size_t big = 3 << 20;
    char *a = mmap(NULL, big, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(a, 'q', big);
    pid_t q = fork();
    if (q == 0)
        for (;;)
            pause();
    char *b = malloc(big);
    l[0] = (struct iovec){b, big};
    r[0] = (struct iovec){a, big};
    SHOW(process_vm_readv(q, l, 1, r, 1, 0));
    CHECK(memcmp(a, b, big) == 0);
    kill(q, SIGKILL);
    kill(pid, SIGKILL);
    waitpid(q, NULL, 0);
    waitpid(pid, NULL, 0);
    SHOW(pread(fd, got, 8, (uintptr_t)&shared));
    fd = open("/proc/self/mem", O_RDONLY);
    SHOW(pread(fd, got, 8, (uintptr_t)&shared));
    CHECK(got[0] == 5);
}

int main(void) {
    calls();
    memory();
    steps();
    signals();
    events();
    attaching();
    watching();
    vm();
    return done();
}
