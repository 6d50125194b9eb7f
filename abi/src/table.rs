//! The system-call table: one row per x86-64 number, exhaustive up to the newest call known.
//!
//! A row is `number name(arg: type, ...) level => handler, "note";`. The level is what a user may
//! rely on: `Full`; `Part` (the note says what is missing); `No` (ENOSYS, as from a kernel built
//! without it; the note may say why). docs/compatibility.md is generated from these rows, `--strace`
//! prints from them, and dispatch is made from them, so they cannot disagree.

use crate::args::{Arg, Bits, Fd, Path, Peek, Ptr};
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};

/// How far a call is supported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// As Linux does it.
    Full,
    /// With gaps that the note names.
    Part,
    /// Answers ENOSYS.
    No,
}

/// What the documentation and `--strace` know of a call.
pub struct Row {
    /// x86-64 number.
    pub nr: u64,
    /// Name.
    pub name: &'static str,
    /// Support.
    pub level: Level,
    /// For users.
    pub note: &'static str,
    /// Formats the arguments.
    pub show: fn(&[u64; 6], &mut String, &mut Peek<'_>),
}

macro_rules! call {
    ($cx:ident, $args:ident, $h:path,) => {
        $h($cx)
    };
    ($cx:ident, $args:ident, $h:path, $a:ty) => {
        $h($cx, <$a>::from_reg($args[0]))
    };
    ($cx:ident, $args:ident, $h:path, $a:ty, $b:ty) => {
        $h($cx, <$a>::from_reg($args[0]), <$b>::from_reg($args[1]))
    };
    ($cx:ident, $args:ident, $h:path, $a:ty, $b:ty, $c:ty) => {
        $h(
            $cx,
            <$a>::from_reg($args[0]),
            <$b>::from_reg($args[1]),
            <$c>::from_reg($args[2]),
        )
    };
    ($cx:ident, $args:ident, $h:path, $a:ty, $b:ty, $c:ty, $d:ty) => {
        $h(
            $cx,
            <$a>::from_reg($args[0]),
            <$b>::from_reg($args[1]),
            <$c>::from_reg($args[2]),
            <$d>::from_reg($args[3]),
        )
    };
    ($cx:ident, $args:ident, $h:path, $a:ty, $b:ty, $c:ty, $d:ty, $e:ty) => {
        $h(
            $cx,
            <$a>::from_reg($args[0]),
            <$b>::from_reg($args[1]),
            <$c>::from_reg($args[2]),
            <$d>::from_reg($args[3]),
            <$e>::from_reg($args[4]),
        )
    };
    ($cx:ident, $args:ident, $h:path, $a:ty, $b:ty, $c:ty, $d:ty, $e:ty, $f:ty) => {
        $h(
            $cx,
            <$a>::from_reg($args[0]),
            <$b>::from_reg($args[1]),
            <$c>::from_reg($args[2]),
            <$d>::from_reg($args[3]),
            <$e>::from_reg($args[4]),
            <$f>::from_reg($args[5]),
        )
    };
}

macro_rules! maybe_call {
    ($cx:ident, $args:ident, [$($ty:ty),*]) => { err(Errno::ENOSYS) };
    ($cx:ident, $args:ident, [$($ty:ty),*] $h:path) => { call!($cx, $args, $h, $($ty),*) };
}

macro_rules! note {
    () => {
        ""
    };
    ($n:literal) => {
        $n
    };
}

macro_rules! table {
    ($($nr:literal $name:ident($($arg:ident: $ty:ty),*) $level:ident $(=> $h:path)? $(, $note:literal)?;)*) => {
        /// Every call by ascending number.
        pub static ROWS: &[Row] = &[$(Row {
            nr: $nr,
            name: stringify!($name),
            level: Level::$level,
            note: note!($($note)?),
            show: |_args, _out, _peek| {
                let mut _i = 0;
                $(
                    if _i > 0 { _out.push_str(", "); }
                    <$ty>::show(_args[_i], _out, _peek);
                    _i += 1;
                )*
            },
        }),*];

        /// Runs the handler of call `nr`.
        pub fn dispatch(cx: &mut Cx<'_>, nr: u64, args: [u64; 6]) -> Io<u64> {
            match nr {
                $($nr => maybe_call!(cx, args, [$($ty),*] $($h)?),)*
                _ => err(Errno::ENOSYS),
            }
        }
    };
}

/// The row of a call.
pub fn row(nr: u64) -> Option<&'static Row> {
    ROWS.binary_search_by_key(&nr, |r| r.nr).ok().map(|i| &ROWS[i])
}

table! {
    0 read(fd: Fd, buf: Ptr, count: u64) Full => crate::sys::io::sys_read;
    1 write(fd: Fd, buf: Ptr, count: u64) Full => crate::sys::io::sys_write;
    2 open(path: Path, flags: Bits, mode: u32) Full => crate::fs::calls::open::sys_open;
    3 close(fd: Fd) Full => crate::sys::io::sys_close;
    4 stat(path: Path, buf: Ptr) Full => crate::fs::calls::stat::sys_stat;
    5 fstat(fd: Fd, buf: Ptr) Full => crate::fs::calls::stat::sys_fstat;
    6 lstat(path: Path, buf: Ptr) Full => crate::fs::calls::stat::sys_lstat;
    7 poll(fds: Ptr, n: u32, timeout_ms: i32) Full => crate::event::poll::sys_poll;
    8 lseek(fd: Fd, offset: i64, whence: i32) Full => crate::fs::calls::rw::sys_lseek;
    9 mmap(addr: u64, len: u64, prot: Bits, flags: Bits, fd: Fd, offset: u64) Full => crate::mm::sys_mmap;
    10 mprotect(addr: Ptr, len: u64, prot: Bits) Full => crate::mm::sys_mprotect;
    11 munmap(addr: Ptr, len: u64) Full => crate::mm::sys_munmap;
    12 brk(addr: Ptr) Full => crate::mm::sys_brk;
    13 rt_sigaction(sig: i32, act: Ptr, old: Ptr, size: u64) Full => crate::signal::sys_rt_sigaction;
    14 rt_sigprocmask(how: i32, set: Ptr, old: Ptr, size: u64) Full => crate::signal::sys_rt_sigprocmask;
    15 rt_sigreturn() Full => crate::signal::sys_rt_sigreturn;
    16 ioctl(fd: Fd, cmd: u32, arg: u64) Part => crate::fs::calls::fdops::sys_ioctl, "terminals, FIONREAD, FIOCLEX, FIONBIO, FIOASYNC and what each object has";
    17 pread64(fd: Fd, buf: Ptr, count: u64, offset: i64) Full => crate::fs::calls::rw::sys_pread64;
    18 pwrite64(fd: Fd, buf: Ptr, count: u64, offset: i64) Full => crate::fs::calls::rw::sys_pwrite64;
    19 readv(fd: Fd, iov: Ptr, n: i32) Full => crate::sys::io::sys_readv;
    20 writev(fd: Fd, iov: Ptr, n: i32) Full => crate::sys::io::sys_writev;
    21 access(path: Path, mode: Bits) Full => crate::fs::calls::stat::sys_access;
    22 pipe(out: Ptr) Full => crate::event::pipe::sys_pipe;
    23 select(n: i32, r: Ptr, w: Ptr, x: Ptr, timeout: Ptr) Full => crate::event::select::sys_select;
    24 sched_yield() Full => crate::sys::proc::sys_sched_yield;
    25 mremap(addr: Ptr, old_len: u64, new_len: u64, flags: Bits, new_addr: Ptr) Full => crate::mm::sys_mremap;
    26 msync(addr: Ptr, len: u64, flags: u32) Full => crate::mm::sys_msync;
    27 mincore(addr: Ptr, len: u64, out: Ptr) Full => crate::mm::sys_mincore;
    28 madvise(addr: Ptr, len: u64, advice: i32) Full => crate::mm::sys_madvise;
    29 shmget(key: i32, size: u64, flags: i32) Part => crate::sysv::shm::sys_shmget, "no huge pages";
    30 shmat(id: i32, addr: u64, flags: i32) Full => crate::sysv::shm::sys_shmat;
    31 shmctl(id: i32, cmd: i32, at: Ptr) Full => crate::sysv::shm::sys_shmctl;
    32 dup(fd: Fd) Full => crate::fs::calls::fdops::sys_dup;
    33 dup2(old: Fd, new: Fd) Full => crate::fs::calls::fdops::sys_dup2;
    34 pause() Full => crate::signal::sys_pause;
    35 nanosleep(req: Ptr, rem: Ptr) Full => crate::time::sys_nanosleep;
    36 getitimer(which: i32, value: Ptr) Full => crate::time::sys_getitimer;
    37 alarm(seconds: u32) Full => crate::time::sys_alarm;
    38 setitimer(which: i32, value: Ptr, old: Ptr) Full => crate::time::sys_setitimer;
    39 getpid() Full => crate::sys::proc::sys_getpid;
    40 sendfile(out: Fd, input: Fd, offset: Ptr, count: u64) Full => crate::fs::calls::copy::sys_sendfile;
    41 socket(domain: i32, kind: i32, protocol: i32) Full => crate::net::sys_socket;
    42 connect(fd: Fd, addr: Ptr, len: i32) Full => crate::net::sys_connect;
    43 accept(fd: Fd, addr: Ptr, len: Ptr) Full => crate::net::sys_accept;
    44 sendto(fd: Fd, buf: Ptr, len: u64, flags: Bits, addr: Ptr, addr_len: i32) Full => crate::net::msg::sys_sendto;
    45 recvfrom(fd: Fd, buf: Ptr, len: u64, flags: Bits, addr: Ptr, addr_len: Ptr) Full => crate::net::msg::sys_recvfrom;
    46 sendmsg(fd: Fd, msg: Ptr, flags: Bits) Full => crate::net::msg::sys_sendmsg;
    47 recvmsg(fd: Fd, msg: Ptr, flags: Bits) Full => crate::net::msg::sys_recvmsg;
    48 shutdown(fd: Fd, how: i32) Full => crate::net::sys_shutdown;
    49 bind(fd: Fd, addr: Ptr, len: i32) Full => crate::net::sys_bind;
    50 listen(fd: Fd, backlog: i32) Full => crate::net::sys_listen;
    51 getsockname(fd: Fd, addr: Ptr, len: Ptr) Full => crate::net::sys_getsockname;
    52 getpeername(fd: Fd, addr: Ptr, len: Ptr) Full => crate::net::sys_getpeername;
    53 socketpair(domain: i32, kind: i32, protocol: i32, out: Ptr) Full => crate::net::sys_socketpair;
    54 setsockopt(fd: Fd, level: i32, name: i32, value: Ptr, len: i32) Full => crate::net::opts::sys_setsockopt;
    55 getsockopt(fd: Fd, level: i32, name: i32, value: Ptr, len: Ptr) Full => crate::net::opts::sys_getsockopt;
    56 clone(flags: Bits, stack: Ptr, parent_tid: Ptr, child_tid: Ptr, tls: Ptr) Full => crate::process::sys_clone;
    57 fork() Full => crate::process::sys_fork;
    58 vfork() Full => crate::process::sys_vfork;
    59 execve(path: Path, argv: Ptr, envp: Ptr) Part => crate::process::sys_execve, "set-user-ID bits and file capabilities are not honoured";
    60 exit(status: i32) Full => crate::sys::proc::sys_exit;
    61 wait4(pid: i32, status: Ptr, options: Bits, usage: Ptr) Full => crate::process::sys_wait4;
    62 kill(pid: i32, sig: i32) Full => crate::signal::sys_kill;
    63 uname(buf: Ptr) Full => crate::sys::proc::sys_uname;
    64 semget(key: i32, n: i32, flags: i32) Full => crate::sysv::sem::sys_semget;
    65 semop(id: i32, ops: Ptr, n: u32) Full => crate::sysv::sem::sys_semop;
    66 semctl(id: i32, num: i32, cmd: i32, arg: u64) Full => crate::sysv::sem::sys_semctl;
    67 shmdt(addr: Ptr) Full => crate::sysv::shm::sys_shmdt;
    68 msgget(key: i32, flags: i32) Full => crate::sysv::msg::sys_msgget;
    69 msgsnd(id: i32, msg: Ptr, size: u64, flags: i32) Full => crate::sysv::msg::sys_msgsnd;
    70 msgrcv(id: i32, msg: Ptr, size: u64, want: i64, flags: i32) Full => crate::sysv::msg::sys_msgrcv;
    71 msgctl(id: i32, cmd: i32, at: Ptr) Full => crate::sysv::msg::sys_msgctl;
    72 fcntl(fd: Fd, cmd: u32, arg: u64) Part => crate::fs::calls::fdops::sys_fcntl, "leases are refused (EAGAIN, as for a file that others have open), directory notification too (EINVAL, as without CONFIG_DNOTIFY)";
    73 flock(fd: Fd, op: i32) Full => crate::fs::calls::fdops::sys_flock;
    74 fsync(fd: Fd) Full => crate::fs::calls::fdops::sys_fsync;
    75 fdatasync(fd: Fd) Full => crate::fs::calls::fdops::sys_fdatasync;
    76 truncate(path: Path, len: i64) Full => crate::fs::calls::attr::sys_truncate;
    77 ftruncate(fd: Fd, len: i64) Full => crate::fs::calls::attr::sys_ftruncate;
    78 getdents(fd: Fd, buf: Ptr, size: u32) Full => crate::fs::calls::dirs::sys_getdents;
    79 getcwd(buf: Ptr, size: u64) Full => crate::fs::calls::dirs::sys_getcwd;
    80 chdir(path: Path) Full => crate::fs::calls::dirs::sys_chdir;
    81 fchdir(fd: Fd) Full => crate::fs::calls::dirs::sys_fchdir;
    82 rename(old: Path, new: Path) Full => crate::fs::calls::names::sys_rename;
    83 mkdir(path: Path, mode: u32) Full => crate::fs::calls::names::sys_mkdir;
    84 rmdir(path: Path) Full => crate::fs::calls::names::sys_rmdir;
    85 creat(path: Path, mode: u32) Full => crate::fs::calls::open::sys_creat;
    86 link(old: Path, new: Path) Full => crate::fs::calls::names::sys_link;
    87 unlink(path: Path) Full => crate::fs::calls::names::sys_unlink;
    88 symlink(target: Path, path: Path) Full => crate::fs::calls::names::sys_symlink;
    89 readlink(path: Path, buf: Ptr, size: i32) Full => crate::fs::calls::stat::sys_readlink;
    90 chmod(path: Path, mode: u32) Full => crate::fs::calls::attr::sys_chmod;
    91 fchmod(fd: Fd, mode: u32) Full => crate::fs::calls::attr::sys_fchmod;
    92 chown(path: Path, uid: u32, gid: u32) Full => crate::fs::calls::attr::sys_chown;
    93 fchown(fd: Fd, uid: u32, gid: u32) Full => crate::fs::calls::attr::sys_fchown;
    94 lchown(path: Path, uid: u32, gid: u32) Full => crate::fs::calls::attr::sys_lchown;
    95 umask(mask: u32) Full => crate::fs::calls::attr::sys_umask;
    96 gettimeofday(tv: Ptr, tz: Ptr) Full => crate::time::sys_gettimeofday;
    97 getrlimit(resource: u32, out: Ptr) Full => crate::process::limits::sys_getrlimit;
    98 getrusage(who: i32, usage: Ptr) Part => crate::time::sys_getrusage, "CPU time (all of it user time), peak size, context switches; faults and blocks are the host's and 0";
    99 sysinfo(out: Ptr) Full => crate::process::sys_sysinfo;
    100 times(buf: Ptr) Full => crate::time::sys_times;
    101 ptrace(request: i64, pid: i32, addr: Ptr, data: Ptr) Part => crate::ptrace::sys_ptrace, "debug registers watch writes that change a value, by stepping; no PTRACE_SYSEMU, PTRACE_PEEKSIGINFO, PTRACE_SECCOMP_GET_FILTER";
    102 getuid() Full => crate::process::creds::sys_getuid;
    103 syslog() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    104 getgid() Full => crate::process::creds::sys_getgid;
    105 setuid(uid: u32) Full => crate::process::creds::sys_setuid;
    106 setgid(gid: u32) Full => crate::process::creds::sys_setgid;
    107 geteuid() Full => crate::process::creds::sys_geteuid;
    108 getegid() Full => crate::process::creds::sys_getegid;
    109 setpgid(pid: i32, pgid: i32) Full => crate::process::ids::sys_setpgid;
    110 getppid() Full => crate::sys::proc::sys_getppid;
    111 getpgrp() Full => crate::process::ids::sys_getpgrp;
    112 setsid() Full => crate::process::ids::sys_setsid;
    113 setreuid(ruid: u32, euid: u32) Full => crate::process::creds::sys_setreuid;
    114 setregid(rgid: u32, egid: u32) Full => crate::process::creds::sys_setregid;
    115 getgroups(n: i32, list: Ptr) Full => crate::process::creds::sys_getgroups;
    116 setgroups(n: i32, list: Ptr) Full => crate::process::creds::sys_setgroups;
    117 setresuid(ruid: u32, euid: u32, suid: u32) Full => crate::process::creds::sys_setresuid;
    118 getresuid(ruid: Ptr, euid: Ptr, suid: Ptr) Full => crate::process::creds::sys_getresuid;
    119 setresgid(rgid: u32, egid: u32, sgid: u32) Full => crate::process::creds::sys_setresgid;
    120 getresgid(rgid: Ptr, egid: Ptr, sgid: Ptr) Full => crate::process::creds::sys_getresgid;
    121 getpgid(pid: i32) Full => crate::process::ids::sys_getpgid;
    122 setfsuid(uid: u32) Full => crate::process::creds::sys_setfsuid;
    123 setfsgid(gid: u32) Full => crate::process::creds::sys_setfsgid;
    124 getsid(pid: i32) Full => crate::process::ids::sys_getsid;
    125 capget(header: Ptr, data: Ptr) Full => crate::process::creds::sys_capget;
    126 capset(header: Ptr, data: Ptr) Full => crate::process::creds::sys_capset;
    127 rt_sigpending(set: Ptr, size: u64) Full => crate::signal::sys_rt_sigpending;
    128 rt_sigtimedwait(set: Ptr, info: Ptr, timeout: Ptr, size: u64) Full => crate::signal::sys_rt_sigtimedwait;
    129 rt_sigqueueinfo(pid: i32, sig: i32, info: Ptr) Full => crate::signal::sys_rt_sigqueueinfo;
    130 rt_sigsuspend(set: Ptr, size: u64) Full => crate::signal::sys_rt_sigsuspend;
    131 sigaltstack(new: Ptr, old: Ptr) Full => crate::signal::sys_sigaltstack;
    132 utime(path: Path, times: Ptr) Full => crate::fs::calls::attr::sys_utime;
    133 mknod(path: Path, mode: u32, dev: u64) Part => crate::fs::calls::names::sys_mknod, "device nodes of the image only: null, zero, full, random, terminals";
    134 uselib() No, "not in today's kernels";
    135 personality(persona: u32) Part => crate::process::sys_personality, "flags are kept and have no effect";
    136 ustat(dev: u64, out: Ptr) Full => crate::fs::calls::mounts::sys_ustat;
    137 statfs(path: Path, buf: Ptr) Full => crate::fs::calls::stat::sys_statfs;
    138 fstatfs(fd: Fd, buf: Ptr) Full => crate::fs::calls::stat::sys_fstatfs;
    139 sysfs() No, "as without CONFIG_SYSFS_SYSCALL";
    140 getpriority(which: i32, who: i32) Full => crate::process::limits::sys_getpriority;
    141 setpriority(which: i32, who: i32, nice: i32) Part => crate::process::limits::sys_setpriority, "kept and reported; every task is scheduled alike";
    142 sched_setparam(pid: i32, param: Ptr) Part => crate::process::sched::sys_sched_setparam, "kept and reported; every task is scheduled alike";
    143 sched_getparam(pid: i32, param: Ptr) Full => crate::process::sched::sys_sched_getparam;
    144 sched_setscheduler(pid: i32, policy: i32, param: Ptr) Part => crate::process::sched::sys_sched_setscheduler, "kept and reported; every task is scheduled alike";
    145 sched_getscheduler(pid: i32) Full => crate::process::sched::sys_sched_getscheduler;
    146 sched_get_priority_max(policy: i32) Full => crate::process::sched::sys_sched_get_priority_max;
    147 sched_get_priority_min(policy: i32) Full => crate::process::sched::sys_sched_get_priority_min;
    148 sched_rr_get_interval(pid: i32, out: Ptr) Full => crate::process::sched::sys_sched_rr_get_interval;
    149 mlock(addr: Ptr, len: u64) Full => crate::mm::sys_mlock;
    150 munlock(addr: Ptr, len: u64) Full => crate::mm::sys_munlock;
    151 mlockall(flags: u32) Full => crate::mm::sys_mlockall;
    152 munlockall() Full => crate::mm::sys_munlockall;
    153 vhangup() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    154 modify_ldt() No, "as without CONFIG_MODIFY_LDT_SYSCALL";
    155 pivot_root() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    156 _sysctl() No, "not in today's kernels";
    157 prctl(option: i32, a: u64, b: u64, c: u64, d: u64) Part => crate::process::sys_prctl, "no change of the TSC's visibility";
    158 arch_prctl(code: u32, addr: Ptr) Full => crate::sys::proc::sys_arch_prctl;
    159 adjtimex(buf: Ptr) Part => crate::time::sys_adjtimex, "reads only: setting is EPERM, as without CAP_SYS_TIME";
    160 setrlimit(resource: u32, new: Ptr) Full => crate::process::limits::sys_setrlimit;
    161 chroot(path: Path) Full => crate::fs::calls::dirs::sys_chroot;
    162 sync() Full => crate::fs::calls::fdops::sys_sync;
    163 acct() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    164 settimeofday(tv: Ptr, tz: Ptr) Part => crate::time::sys_settimeofday, "always EPERM, as without CAP_SYS_TIME";
    165 mount() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    166 umount2() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    167 swapon() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    168 swapoff() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    169 reboot() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    170 sethostname() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    171 setdomainname() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    172 iopl() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    173 ioperm() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    174 create_module() No, "not in today's kernels";
    175 init_module() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    176 delete_module() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    177 get_kernel_syms() No, "not in today's kernels";
    178 query_module() No, "not in today's kernels";
    179 quotactl() No, "as without CONFIG_QUOTA: no file system of an image has quotas";
    180 nfsservctl() No, "not in today's kernels";
    181 getpmsg() No, "never was";
    182 putpmsg() No, "never was";
    183 afs_syscall() No, "never was";
    184 tuxcall() No, "never was";
    185 security() No, "never was";
    186 gettid() Full => crate::sys::proc::sys_gettid;
    187 readahead(fd: Fd, offset: i64, len: u64) Full => crate::fs::calls::fdops::sys_readahead;
    188 setxattr(path: Path, name: Ptr, value: Ptr, size: u64, flags: i32) Part => crate::fs::calls::xattr::sys_setxattr, "user.* and trusted.*; no ACLs, security.* is read only";
    189 lsetxattr(path: Path, name: Ptr, value: Ptr, size: u64, flags: i32) Part => crate::fs::calls::xattr::sys_lsetxattr, "user.* and trusted.*; no ACLs, security.* is read only";
    190 fsetxattr(fd: Fd, name: Ptr, value: Ptr, size: u64, flags: i32) Part => crate::fs::calls::xattr::sys_fsetxattr, "user.* and trusted.*; no ACLs, security.* is read only";
    191 getxattr(path: Path, name: Ptr, value: Ptr, size: u64) Part => crate::fs::calls::xattr::sys_getxattr, "user.* and trusted.*; no ACLs, security.* is read only";
    192 lgetxattr(path: Path, name: Ptr, value: Ptr, size: u64) Part => crate::fs::calls::xattr::sys_lgetxattr, "user.* and trusted.*; no ACLs, security.* is read only";
    193 fgetxattr(fd: Fd, name: Ptr, value: Ptr, size: u64) Part => crate::fs::calls::xattr::sys_fgetxattr, "user.* and trusted.*; no ACLs, security.* is read only";
    194 listxattr(path: Path, list: Ptr, size: u64) Part => crate::fs::calls::xattr::sys_listxattr, "user.* and trusted.*; no ACLs, security.* is read only";
    195 llistxattr(path: Path, list: Ptr, size: u64) Part => crate::fs::calls::xattr::sys_llistxattr, "user.* and trusted.*; no ACLs, security.* is read only";
    196 flistxattr(fd: Fd, list: Ptr, size: u64) Part => crate::fs::calls::xattr::sys_flistxattr, "user.* and trusted.*; no ACLs, security.* is read only";
    197 removexattr(path: Path, name: Ptr) Part => crate::fs::calls::xattr::sys_removexattr, "user.* and trusted.*; no ACLs, security.* is read only";
    198 lremovexattr(path: Path, name: Ptr) Part => crate::fs::calls::xattr::sys_lremovexattr, "user.* and trusted.*; no ACLs, security.* is read only";
    199 fremovexattr(fd: Fd, name: Ptr) Part => crate::fs::calls::xattr::sys_fremovexattr, "user.* and trusted.*; no ACLs, security.* is read only";
    200 tkill(tid: i32, sig: i32) Full => crate::signal::sys_tkill;
    201 time(out: Ptr) Full => crate::time::sys_time;
    202 futex(addr: u64, op: Bits, val: u32, arg: Ptr, addr2: u64, val3: u32) Full => crate::futex::sys_futex;
    203 sched_setaffinity(pid: i32, len: u32, mask: Ptr) Full => crate::process::sched::sys_sched_setaffinity;
    204 sched_getaffinity(pid: i32, len: u32, mask: Ptr) Full => crate::process::sched::sys_sched_getaffinity;
    205 set_thread_area() No, "32-bit only";
    206 io_setup(n: u32, out: Ptr) Full => crate::fs::aio::sys_io_setup;
    207 io_destroy(ctx: Ptr) Full => crate::fs::aio::sys_io_destroy;
    208 io_getevents(ctx: Ptr, min: i64, n: i64, events: Ptr, timeout: Ptr) Full => crate::fs::aio::sys_io_getevents;
    209 io_submit(ctx: Ptr, n: i64, list: Ptr) Full => crate::fs::aio::sys_io_submit, "reads, writes and syncs are done before it returns, as most file systems do them";
    210 io_cancel(ctx: Ptr, iocb: Ptr, result: Ptr) Full => crate::fs::aio::sys_io_cancel;
    211 get_thread_area() No, "32-bit only";
    212 lookup_dcookie() No, "not in today's kernels";
    213 epoll_create(size: i32) Full => crate::event::epoll::sys_epoll_create;
    214 epoll_ctl_old() No, "never was";
    215 epoll_wait_old() No, "never was";
    216 remap_file_pages() No, "as without CONFIG_MMU: removed from what programs may rely on in Linux 4.0";
    217 getdents64(fd: Fd, buf: Ptr, size: u32) Full => crate::fs::calls::dirs::sys_getdents64;
    218 set_tid_address(ptr: Ptr) Full => crate::sys::proc::sys_set_tid_address;
    219 restart_syscall() Full => crate::signal::sys_restart_syscall;
    220 semtimedop(id: i32, ops: Ptr, n: u32, timeout: Ptr) Full => crate::sysv::sem::sys_semtimedop;
    221 fadvise64(fd: Fd, offset: i64, len: i64, advice: i32) Full => crate::fs::calls::fdops::sys_fadvise64;
    222 timer_create(clock: i32, event: Ptr, id: Ptr) Full => crate::time::sys_timer_create;
    223 timer_settime(id: i32, flags: i32, new: Ptr, old: Ptr) Full => crate::time::sys_timer_settime;
    224 timer_gettime(id: i32, value: Ptr) Full => crate::time::sys_timer_gettime;
    225 timer_getoverrun(id: i32) Full => crate::time::sys_timer_getoverrun;
    226 timer_delete(id: i32) Full => crate::time::sys_timer_delete;
    227 clock_settime(clock: i32, ts: Ptr) Part => crate::time::sys_clock_settime, "always EPERM, as without CAP_SYS_TIME";
    228 clock_gettime(clock: i32, ts: Ptr) Full => crate::time::sys_clock_gettime;
    229 clock_getres(clock: i32, ts: Ptr) Full => crate::time::sys_clock_getres;
    230 clock_nanosleep(clock: i32, flags: i32, req: Ptr, rem: Ptr) Full => crate::time::sys_clock_nanosleep;
    231 exit_group(status: i32) Full => crate::sys::proc::sys_exit_group;
    232 epoll_wait(ep: Fd, events: Ptr, max: i32, timeout_ms: i32) Full => crate::event::epoll::sys_epoll_wait;
    233 epoll_ctl(ep: Fd, op: i32, fd: Fd, event: Ptr) Full => crate::event::epoll::sys_epoll_ctl;
    234 tgkill(tgid: i32, tid: i32, sig: i32) Full => crate::signal::sys_tgkill;
    235 utimes(path: Path, times: Ptr) Full => crate::fs::calls::attr::sys_utimes;
    236 vserver() No, "never was";
    237 mbind(addr: Ptr, len: u64, mode: i32, mask: Ptr, max: u64, flags: u32) Full => crate::process::refused::sys_mbind, "there is one node";
    238 set_mempolicy(mode: i32, mask: Ptr, max: u64) Full => crate::process::refused::sys_set_mempolicy, "there is one node";
    239 get_mempolicy(mode: Ptr, mask: Ptr, max: u64, addr: Ptr, flags: u64) Part => crate::process::refused::sys_get_mempolicy, "there is one node; always MPOL_DEFAULT";
    240 mq_open(name: Path, flags: i32, mode: u32, attr: Ptr) Full => crate::sysv::mqueue::sys_mq_open;
    241 mq_unlink(name: Path) Full => crate::sysv::mqueue::sys_mq_unlink;
    242 mq_timedsend(fd: Fd, msg: Ptr, len: u64, prio: u32, timeout: Ptr) Full => crate::sysv::mqueue::sys_mq_timedsend;
    243 mq_timedreceive(fd: Fd, buf: Ptr, len: u64, prio: Ptr, timeout: Ptr) Full => crate::sysv::mqueue::sys_mq_timedreceive;
    244 mq_notify(fd: Fd, event: Ptr) Full => crate::sysv::mqueue::sys_mq_notify;
    245 mq_getsetattr(fd: Fd, new: Ptr, old: Ptr) Full => crate::sysv::mqueue::sys_mq_getsetattr;
    246 kexec_load() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    247 waitid(kind: i32, id: i32, info: Ptr, options: Bits, usage: Ptr) Full => crate::process::sys_waitid;
    248 add_key() No, "as without CONFIG_KEYS";
    249 request_key() No, "as without CONFIG_KEYS";
    250 keyctl() No, "as without CONFIG_KEYS";
    251 ioprio_set(which: i32, who: i32, value: u32) Full => crate::process::sched::sys_ioprio_set;
    252 ioprio_get(which: i32, who: i32) Full => crate::process::sched::sys_ioprio_get;
    253 inotify_init() Part => crate::fs::inotify::sys_inotify_init, "what the image does; changes by others on the host are not noticed";
    254 inotify_add_watch(fd: Fd, path: Path, mask: u32) Part => crate::fs::inotify::sys_inotify_add_watch, "what the image does; changes by others on the host are not noticed";
    255 inotify_rm_watch(fd: Fd, wd: i32) Full => crate::fs::inotify::sys_inotify_rm_watch;
    256 migrate_pages(pid: i32, max: u64, old: Ptr, new: Ptr) Full => crate::mm::numa::sys_migrate_pages, "there is one node";
    257 openat(dirfd: Fd, path: Path, flags: Bits, mode: u32) Full => crate::fs::calls::open::sys_openat;
    258 mkdirat(dirfd: Fd, path: Path, mode: u32) Full => crate::fs::calls::names::sys_mkdirat;
    259 mknodat(dirfd: Fd, path: Path, mode: u32, dev: u64) Part => crate::fs::calls::names::sys_mknodat, "as mknod";
    260 fchownat(dirfd: Fd, path: Path, uid: u32, gid: u32, flags: Bits) Full => crate::fs::calls::attr::sys_fchownat;
    261 futimesat(dirfd: Fd, path: Path, times: Ptr) Full => crate::fs::calls::attr::sys_futimesat;
    262 newfstatat(dirfd: Fd, path: Path, buf: Ptr, flags: Bits) Full => crate::fs::calls::stat::sys_newfstatat;
    263 unlinkat(dirfd: Fd, path: Path, flags: Bits) Full => crate::fs::calls::names::sys_unlinkat;
    264 renameat(fd1: Fd, old: Path, fd2: Fd, new: Path) Full => crate::fs::calls::names::sys_renameat;
    265 linkat(fd1: Fd, old: Path, fd2: Fd, new: Path, flags: Bits) Full => crate::fs::calls::names::sys_linkat;
    266 symlinkat(target: Path, dirfd: Fd, path: Path) Full => crate::fs::calls::names::sys_symlinkat;
    267 readlinkat(dirfd: Fd, path: Path, buf: Ptr, size: i32) Full => crate::fs::calls::stat::sys_readlinkat;
    268 fchmodat(dirfd: Fd, path: Path, mode: u32) Full => crate::fs::calls::attr::sys_fchmodat;
    269 faccessat(dirfd: Fd, path: Path, mode: Bits) Full => crate::fs::calls::stat::sys_faccessat;
    270 pselect6(n: i32, r: Ptr, w: Ptr, x: Ptr, timeout: Ptr, sig: Ptr) Full => crate::event::select::sys_pselect6;
    271 ppoll(fds: Ptr, n: u32, timeout: Ptr, mask: Ptr, size: u64) Full => crate::event::poll::sys_ppoll;
    272 unshare(flags: Bits) Part => crate::process::sys_unshare, "no namespaces";
    273 set_robust_list(head: Ptr, len: u64) Full => crate::futex::sys_set_robust_list;
    274 get_robust_list(pid: i32, head: Ptr, len: Ptr) Full => crate::futex::sys_get_robust_list;
    275 splice(input: Fd, off_in: Ptr, out: Fd, off_out: Ptr, len: u64, flags: Bits) Full => crate::fs::calls::copy::sys_splice;
    276 tee(input: Fd, out: Fd, len: u64, flags: Bits) Full => crate::fs::calls::copy::sys_tee;
    277 sync_file_range(fd: Fd, offset: i64, len: i64, flags: Bits) Full => crate::fs::calls::fdops::sys_sync_file_range;
    278 vmsplice(fd: Fd, iov: Ptr, n: u64, flags: Bits) Full => crate::fs::calls::copy::sys_vmsplice;
    279 move_pages(pid: i32, n: u64, pages: Ptr, nodes: Ptr, status: Ptr, flags: i32) Full => crate::mm::numa::sys_move_pages, "there is one node; mapped pages of another process count as present";
    280 utimensat(dirfd: Fd, path: Path, times: Ptr, flags: Bits) Full => crate::fs::calls::attr::sys_utimensat;
    281 epoll_pwait(ep: Fd, events: Ptr, max: i32, timeout_ms: i32, mask: Ptr, size: u64) Full => crate::event::epoll::sys_epoll_pwait;
    282 signalfd(fd: Fd, mask: Ptr, size: u64) Full => crate::signal::sys_signalfd;
    283 timerfd_create(clock: i32, flags: i32) Full => crate::time::sys_timerfd_create;
    284 eventfd(count: u32) Full => crate::event::eventfd::sys_eventfd;
    285 fallocate(fd: Fd, mode: i32, offset: i64, len: i64) Part => crate::fs::calls::attr::sys_fallocate, "in the image: allocate, punch, zero; a volume does what the host does";
    286 timerfd_settime(fd: Fd, flags: i32, new: Ptr, old: Ptr) Full => crate::time::sys_timerfd_settime;
    287 timerfd_gettime(fd: Fd, value: Ptr) Full => crate::time::sys_timerfd_gettime;
    288 accept4(fd: Fd, addr: Ptr, len: Ptr, flags: i32) Full => crate::net::sys_accept4;
    289 signalfd4(fd: Fd, mask: Ptr, size: u64, flags: i32) Full => crate::signal::sys_signalfd4;
    290 eventfd2(count: u32, flags: i32) Full => crate::event::eventfd::sys_eventfd2;
    291 epoll_create1(flags: i32) Full => crate::event::epoll::sys_epoll_create1;
    292 dup3(old: Fd, new: Fd, flags: i32) Full => crate::fs::calls::fdops::sys_dup3;
    293 pipe2(out: Ptr, flags: i32) Full => crate::event::pipe::sys_pipe2;
    294 inotify_init1(flags: i32) Part => crate::fs::inotify::sys_inotify_init1, "what the image does; changes by others on the host are not noticed";
    295 preadv(fd: Fd, iov: Ptr, n: i32, lo: i64, hi: i64) Full => crate::fs::calls::rw::sys_preadv;
    296 pwritev(fd: Fd, iov: Ptr, n: i32, lo: i64, hi: i64) Full => crate::fs::calls::rw::sys_pwritev;
    297 rt_tgsigqueueinfo(tgid: i32, tid: i32, sig: i32, info: Ptr) Full => crate::signal::sys_rt_tgsigqueueinfo;
    298 perf_event_open() Part => crate::process::refused::sys_perf_event_open, "always EACCES";
    299 recvmmsg(fd: Fd, vec: Ptr, n: u32, flags: Bits, timeout: Ptr) Full => crate::net::msg::sys_recvmmsg;
    300 fanotify_init() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    301 fanotify_mark(fd: Fd) Part => crate::fs::calls::mounts::sys_no_such_context, "always EINVAL: nobody has a group, as fanotify_init is EPERM";
    302 prlimit64(pid: i32, resource: u32, new: Ptr, old: Ptr) Full => crate::process::limits::sys_prlimit64;
    303 name_to_handle_at(dirfd: Fd, path: Ptr, handle: Ptr, mount: Ptr, flags: Bits) Part => crate::fs::calls::fdops::sys_name_to_handle_at, "EOPNOTSUPP: no file handles, as from an overlay that is not exported";
    304 open_by_handle_at() Part => crate::process::refused::sys_not_permitted, "always EPERM, as without CAP_DAC_READ_SEARCH";
    305 clock_adjtime(clock: i32, buf: Ptr) Part => crate::time::sys_clock_adjtime, "reads only: setting is EPERM, as without CAP_SYS_TIME";
    306 syncfs(fd: Fd) Full => crate::fs::calls::fdops::sys_syncfs;
    307 sendmmsg(fd: Fd, vec: Ptr, n: u32, flags: Bits) Full => crate::net::msg::sys_sendmmsg;
    308 setns(fd: Fd, kind: i32) Part => crate::process::refused::sys_setns, "always refused: one namespace of each kind";
    309 getcpu(cpu: Ptr, node: Ptr) Full => crate::process::ids::sys_getcpu;
    310 process_vm_readv(pid: i32, local: Ptr, n_local: u64, remote: Ptr, n_remote: u64, flags: u64) Full => crate::process::refused::sys_process_vm_readv;
    311 process_vm_writev(pid: i32, local: Ptr, n_local: u64, remote: Ptr, n_remote: u64, flags: u64) Full => crate::process::refused::sys_process_vm_writev;
    312 kcmp(pid1: i32, pid2: i32, kind: i32, a: u64, b: u64) Full => crate::process::ids::sys_kcmp;
    313 finit_module() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    314 sched_setattr(pid: i32, attr: Ptr, flags: u32) Part => crate::process::sched::sys_sched_setattr, "kept and reported; no deadline policy";
    315 sched_getattr(pid: i32, attr: Ptr, size: u32, flags: u32) Full => crate::process::sched::sys_sched_getattr;
    316 renameat2(fd1: Fd, old: Path, fd2: Fd, new: Path, flags: Bits) Part => crate::fs::calls::names::sys_renameat2, "RENAME_WHITEOUT is EINVAL, as from a file system without whiteouts";
    317 seccomp(op: u32, flags: u32, args: Ptr) Part => crate::seccomp::sys_seccomp, "no listener (SECCOMP_FILTER_FLAG_NEW_LISTENER)";
    318 getrandom(buf: Ptr, len: u64, flags: u32) Full => crate::sys::proc::sys_getrandom;
    319 memfd_create(name: Path, flags: Bits) Part => crate::fs::calls::memfd::sys_memfd_create, "no huge pages";
    320 kexec_file_load() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    321 bpf() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    322 execveat(dir: Fd, path: Path, argv: Ptr, envp: Ptr, flags: Bits) Part => crate::process::sys_execveat, "set-user-ID bits and file capabilities are not honoured";
    323 userfaultfd() Part => crate::process::refused::sys_not_permitted, "always EPERM";
    324 membarrier(cmd: i32, flags: u32, cpu: i32) Full => crate::process::sched::sys_membarrier;
    325 mlock2(addr: Ptr, len: u64, flags: u32) Full => crate::mm::sys_mlock2;
    326 copy_file_range(input: Fd, off_in: Ptr, out: Fd, off_out: Ptr, len: u64, flags: Bits) Full => crate::fs::calls::copy::sys_copy_file_range;
    327 preadv2(fd: Fd, iov: Ptr, n: i32, lo: i64, hi: i64, flags: Bits) Full => crate::fs::calls::rw::sys_preadv2;
    328 pwritev2(fd: Fd, iov: Ptr, n: i32, lo: i64, hi: i64, flags: Bits) Full => crate::fs::calls::rw::sys_pwritev2;
    329 pkey_mprotect(addr: Ptr, len: u64, prot: Bits, key: i32) Full => crate::mm::sys_pkey_mprotect, "as on a CPU without protection keys";
    330 pkey_alloc(flags: u64, rights: u64) Full => crate::process::refused::sys_pkey_alloc, "as on a CPU without protection keys";
    331 pkey_free() Full => crate::process::refused::sys_pkey_free, "as on a CPU without protection keys";
    332 statx(dirfd: Fd, path: Path, flags: Bits, mask: u32, buf: Ptr) Full => crate::fs::calls::stat::sys_statx, "of the attributes only STATX_ATTR_MOUNT_ROOT";
    333 io_pgetevents(ctx: Ptr, min: i64, n: i64, events: Ptr, timeout: Ptr, sig: Ptr) Full => crate::fs::aio::sys_io_pgetevents;
    334 rseq(area: Ptr, len: u32, flags: i32, sig: u32) Full => crate::process::sys_rseq;
    335 uretprobe() No, "for the kernel's own trampolines, which nobody gets: perf_event_open is refused";
    336 uprobe() No, "as uretprobe";
    424 pidfd_send_signal(fd: Fd, sig: i32, info: Ptr, flags: u32) Full => crate::signal::sys_pidfd_send_signal;
    425 io_uring_setup(entries: u32, params: Ptr) Part => crate::uring::sys_io_uring_setup, "no memory of the guest's own for rings (IORING_SETUP_NO_MMAP); with SQPOLL each submission is announced by io_uring_enter";
    426 io_uring_enter(fd: Fd, to_submit: u32, min: u32, flags: Bits, arg: Ptr, size: u64) Part => crate::uring::sys_io_uring_enter, "operations that IORING_REGISTER_PROBE names; others are EINVAL in their completion";
    427 io_uring_register(fd: Fd, what: u32, arg: Ptr, n: u32) Part => crate::uring::sys_io_uring_register, "what Linux 6.0 has; buffer rings in the guest's memory only";
    428 open_tree(dir: Fd, path: Path, flags: Bits) Part => crate::fs::calls::mounts::sys_open_tree, "a clone is EPERM, as without CAP_SYS_ADMIN";
    429 move_mount() Part => crate::process::refused::sys_not_permitted, "always EPERM, as without CAP_SYS_ADMIN";
    430 fsopen() Part => crate::process::refused::sys_not_permitted, "always EPERM, as without CAP_SYS_ADMIN";
    431 fsconfig(fd: Fd) Part => crate::fs::calls::mounts::sys_no_such_context, "always EINVAL: nobody has a context, as fsopen is EPERM";
    432 fsmount() Part => crate::process::refused::sys_not_permitted, "always EPERM, as without CAP_SYS_ADMIN";
    433 fspick() Part => crate::process::refused::sys_not_permitted, "always EPERM, as without CAP_SYS_ADMIN";
    434 pidfd_open(pid: i32, flags: i32) Full => crate::process::sys_pidfd_open;
    435 clone3(args: Ptr, size: u64) Part => crate::process::sys_clone3, "no namespaces, set_tid or cgroup";
    436 close_range(first: u32, last: u32, flags: u32) Full => crate::fs::calls::fdops::sys_close_range;
    437 openat2(dirfd: Fd, path: Path, how: Ptr, size: u64) Full => crate::fs::calls::open::sys_openat2;
    438 pidfd_getfd(pidfd: Fd, fd: i32, flags: u32) Full => crate::process::sys_pidfd_getfd;
    439 faccessat2(dirfd: Fd, path: Path, mode: Bits, flags: Bits) Full => crate::fs::calls::stat::sys_faccessat2;
    440 process_madvise(pidfd: Fd, iov: Ptr, n: i32, advice: i32, flags: u32) Full => crate::mm::sys_process_madvise;
    441 epoll_pwait2(ep: Fd, events: Ptr, max: i32, timeout: Ptr, mask: Ptr, size: u64) Full => crate::event::epoll::sys_epoll_pwait2;
    442 mount_setattr() Part => crate::process::refused::sys_not_permitted, "always EPERM, as without CAP_SYS_ADMIN";
    443 quotactl_fd() No, "as without CONFIG_QUOTA: no file system of an image has quotas";
    444 landlock_create_ruleset() Part => crate::process::refused::sys_not_enabled, "always EOPNOTSUPP";
    445 landlock_add_rule() Part => crate::process::refused::sys_not_enabled, "always EOPNOTSUPP";
    446 landlock_restrict_self() Part => crate::process::refused::sys_not_enabled, "always EOPNOTSUPP";
    447 memfd_secret() No, "as without CONFIG_SECRETMEM";
    448 process_mrelease(pidfd: Fd, flags: u32) Full => crate::process::pidfd::sys_process_mrelease;
    449 futex_waitv(list: Ptr, n: u32, flags: u32, timeout: Ptr, clock: i32) Full => crate::futex::sys_futex_waitv;
    450 set_mempolicy_home_node(addr: Ptr, len: u64, node: u64, flags: u64) Part => crate::mm::numa::sys_set_mempolicy_home_node, "there is one node; ENOENT also after mbind";
    451 cachestat(fd: Fd, range: Ptr, out: Ptr, flags: u32) Full => crate::mm::numa::sys_cachestat, "every page counts as cached and clean";
    452 fchmodat2(dirfd: Fd, path: Path, mode: u32, flags: Bits) Full => crate::fs::calls::attr::sys_fchmodat2;
    453 map_shadow_stack() Part => crate::process::refused::sys_not_enabled, "always EOPNOTSUPP";
    454 futex_wake(addr: u64, mask: u64, n: i32, flags: u32) Full => crate::futex::sys_futex_wake, "as without CONFIG_FUTEX_MPOL";
    455 futex_wait(addr: u64, val: u64, mask: u64, flags: u32, timeout: Ptr, clock: i32) Full => crate::futex::sys_futex_wait, "as without CONFIG_FUTEX_MPOL";
    456 futex_requeue(list: Ptr, flags: u32, n_wake: i32, n_move: i32) Full => crate::futex::sys_futex_requeue, "as without CONFIG_FUTEX_MPOL";
    457 statmount(req: Ptr, out: Ptr, size: u64, flags: u32) Part => crate::fs::calls::mounts::sys_statmount, "no options, no namespaces but the one";
    458 listmount(req: Ptr, out: Ptr, n: u64, flags: u32) Full => crate::fs::calls::mounts::sys_listmount;
    459 lsm_get_self_attr() No, "as without CONFIG_SECURITY";
    460 lsm_set_self_attr() No, "as without CONFIG_SECURITY";
    461 lsm_list_modules() No, "as without CONFIG_SECURITY";
    462 mseal(addr: Ptr, len: u64, flags: u64) Full => crate::mm::sys_mseal;
    463 setxattrat(dir: Fd, path: Path, flags: Bits, name: Ptr, args: Ptr, size: u64) Part => crate::fs::calls::xattr::sys_setxattrat, "user.* and trusted.*; no ACLs, security.* is read only";
    464 getxattrat(dir: Fd, path: Path, flags: Bits, name: Ptr, args: Ptr, size: u64) Part => crate::fs::calls::xattr::sys_getxattrat, "user.* and trusted.*; no ACLs, security.* is read only";
    465 listxattrat(dir: Fd, path: Path, flags: Bits, list: Ptr, size: u64) Part => crate::fs::calls::xattr::sys_listxattrat, "user.* and trusted.*; no ACLs, security.* is read only";
    466 removexattrat(dir: Fd, path: Path, flags: Bits, name: Ptr) Part => crate::fs::calls::xattr::sys_removexattrat, "user.* and trusted.*; no ACLs, security.* is read only";
    467 open_tree_attr() Part => crate::process::refused::sys_not_permitted, "always EPERM, as without CAP_SYS_ADMIN";
    468 file_getattr(dir: Fd, path: Path, attr: Ptr, size: u64, flags: Bits) Part => crate::fs::calls::fdops::sys_file_attr, "always EOPNOTSUPP: no file system of an image has such attributes";
    469 file_setattr(dir: Fd, path: Path, attr: Ptr, size: u64, flags: Bits) Part => crate::fs::calls::fdops::sys_file_attr, "always EOPNOTSUPP: no file system of an image has such attributes";
}

const _: () = {
    let mut i = 1;
    while i < ROWS.len() {
        assert!(ROWS[i - 1].nr < ROWS[i].nr, "rows ascend");
        i += 1;
    }
};
