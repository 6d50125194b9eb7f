//! What a guest process may still do on the host once it is set up: a seccomp filter, and capabilities given back.
//!
//! **Where a call comes from.** Only the runtime's own mapping calls the host. The filter on the instruction pointer is the net
//! under Syscall User Dispatch: it also gets int 0x80 and the vsyscall page, and nobody can switch it off.
//!
//! **What the runtime calls.** It never executes another program, traces, mounts, loads or joins anything, whatever a program that has
//! damaged its image makes it do: what is not on the list fails with EPERM. The program shares the runtime's
//! address space, so this guards the host's kernel and not the caller's files (docs/limits.md).

use crate::sys::{HostErr, sys};
use ftl_core::layout::RUNTIME_BASE;
use libc::sock_filter;

const ARCH_X86_64: u32 = 0xc000_003e;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;

/// What the runtime, the standard library and the C library under it call after set-up.
const ALLOWED: &[i64] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_memfd_create,
    libc::SYS_mincore,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_userfaultfd,
    // Descriptors and files.
    libc::SYS_access,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_close,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fgetxattr,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_lchown,
    libc::SYS_lgetxattr,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_llistxattr,
    libc::SYS_lremovexattr,
    libc::SYS_lseek,
    libc::SYS_lsetxattr,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_newfstatat,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_rmdir,
    libc::SYS_sendfile,
    libc::SYS_stat,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_sync_file_range,
    libc::SYS_umask,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_write,
    libc::SYS_writev,
    // Sockets.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setpriority,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socket,
    libc::SYS_socketpair,
    // Waiting, time, signals.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_gettimeofday,
    libc::SYS_kill,
    libc::SYS_nanosleep,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_tkill,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_settime,
    // Processes: only copies of this one.
    libc::SYS_arch_prctl,
    libc::SYS_clone,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// Where the answer changes: calls from an even boundary to the odd one behind it are allowed.
fn boundaries(mut allowed: Vec<u32>) -> Vec<u32> {
    allowed.sort_unstable();
    let mut out: Vec<u32> = Vec::new();
    for nr in allowed {
        match out.last_mut() {
            Some(end) if *end > nr => {}
            Some(end) if *end == nr => *end += 1,
            _ => out.extend([nr, nr + 1]),
        }
    }
    out
}

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ
const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE
const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET
const RET: u16 = 0x06;

/// Flags of clone(2) that make namespaces: a user namespace would give all capabilities in it.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// `TIOCLINUX`: pastes into a console, among other things (ioctl_console(2)).
const TIOCLINUX: u32 = 0x541c;

/// A binary search over boundaries `from..to`, with the number in the accumulator.
fn search(bounds: &[u32], from: usize, to: usize, out: &mut Vec<sock_filter>) {
    if from == to {
        let answer = match from % 2 {
            1 => RET_ALLOW,
            _ => RET_ERRNO | libc::EPERM as u32,
        };
        return out.push(op(RET, 0, 0, answer));
    }
    let mid = from.midpoint(to);
    let at = out.len();
    out.push(op(AT_LEAST, 0, 0, bounds[mid]));
    search(bounds, from, mid, out);
    // A tree of this many boundaries is far shorter than a jump reaches.
    out[at].jt = (out.len() - at - 1) as u8;
    search(bounds, mid + 1, to, out);
}

/// The whole filter. Offsets are those of `struct seccomp_data` (seccomp(2)).
fn filter(runtime_len: u64) -> Vec<sock_filter> {
    let low = RUNTIME_BASE as u32;
    let mut out = vec![
        op(LOAD, 0, 0, 4),
        op(EQUAL, 0, 5, ARCH_X86_64),
        op(LOAD, 0, 0, 12),
        op(EQUAL, 0, 3, (RUNTIME_BASE >> 32) as u32),
        op(LOAD, 0, 0, 8),
        op(AT_LEAST, 0, 1, low),
        op(AT_LEAST, 0, 1, low.wrapping_add(runtime_len as u32)),
        op(RET, 0, 0, RET_TRAP),
        op(LOAD, 0, 0, 0),
        // Its flags lie in memory, which a filter does not see. As if it were not there: the C library then uses clone.
        op(EQUAL, 0, 1, libc::SYS_clone3 as u32),
        op(RET, 0, 0, RET_ERRNO | libc::ENOSYS as u32),
        op(EQUAL, 0, 4, libc::SYS_clone as u32),
        op(LOAD, 0, 0, 16),
        op(ANY_BIT, 0, 1, NAMESPACES),
        op(RET, 0, 0, RET_ERRNO | libc::EPERM as u32),
        op(RET, 0, 0, RET_ALLOW),
        // Its own priority (PRIO_PROCESS, 0), and nobody else's.
        op(EQUAL, 0, 6, libc::SYS_setpriority as u32),
        op(LOAD, 0, 0, 16),
        op(EQUAL, 0, 3, 0),
        op(LOAD, 0, 0, 24),
        op(EQUAL, 0, 1, 0),
        op(RET, 0, 0, RET_ALLOW),
        op(RET, 0, 0, RET_ERRNO | libc::EPERM as u32),
        // The terminal is the caller's: nobody types into it (ioctl_tty(2)), as the shell that reads it may be another user's.
        op(EQUAL, 0, 5, libc::SYS_ioctl as u32),
        op(LOAD, 0, 0, 24),
        op(EQUAL, 1, 0, libc::TIOCSTI as u32),
        op(EQUAL, 0, 1, TIOCLINUX),
        op(RET, 0, 0, RET_ERRNO | libc::EPERM as u32),
        op(RET, 0, 0, RET_ALLOW),
    ];
    let bounds = boundaries(ALLOWED.iter().map(|nr| *nr as u32).collect());
    search(&bounds, 0, bounds.len(), &mut out);
    out
}

/// Confines this process and all that it makes, for good. The runtime's mapping has this length.
pub fn confine(runtime_len: u64) -> Result<(), HostErr> {
    drop_capabilities()?;
    let prog = filter(runtime_len);
    let fprog = libc::sock_fprog {
        len: prog.len() as u16,
        filter: prog.as_ptr().cast_mut(),
    };
    // SAFETY: the program is valid for the duration of the call.
    unsafe {
        sys!(
            libc::SYS_prctl,
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const fprog,
            0,
            0
        )?;
    }
    Ok(())
}

/// Capabilities (capabilities(7)) that the caller's access to files, ports and interfaces is made of; all others are given
/// back. CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, KILL, LINUX_IMMUTABLE, NET_BIND_SERVICE, NET_RAW (a
/// takeover opens its interface when it goes live), IPC_LOCK, SYS_NICE, SYS_RESOURCE, MKNOD, LEASE, SETFCAP.
#[rustfmt::skip]
const KEPT: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 10 | 1 << 13 | 1 << 14 | 1 << 23
    | 1 << 24 | 1 << 27 | 1 << 28 | 1 << 31;

/// Gives back what is not kept. The supervisor does too, once it has started the image: a process reads the descriptors of one
/// that has no more capabilities than itself only (ptrace(2), "Ptrace access mode checking").
pub fn drop_capabilities() -> Result<(), HostErr> {
    // Nor does a program that is executed from here get any back: root's would, and count as one that may not be looked into.
    // SAFETY: no pointers.
    unsafe { sys!(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }?;
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    // For the low and the high 32: effective, permitted, inheritable.
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: the header and two sets of version 3.
    unsafe { sys!(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) }?;
    for (i, set) in sets.iter_mut().enumerate() {
        let kept = (KEPT >> (32 * i)) as u32;
        // Nothing is executed any more: nothing is inherited.
        *set = [set[0] & kept, set[1] & kept, 0];
    }
    // SAFETY: as above; fewer capabilities than before need no privilege.
    unsafe { sys!(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers, by running it as the kernel does.
    fn answer(prog: &[sock_filter], nr: u32, arch: u32, ip: u64) -> u32 {
        answer_with(prog, nr, arch, ip, 0)
    }

    fn answer_with(prog: &[sock_filter], nr: u32, arch: u32, ip: u64, arg: u32) -> u32 {
        let mut at = 0;
        let mut acc = 0;
        loop {
            let f = &prog[at];
            at += 1;
            match f.code {
                LOAD => {
                    acc = match f.k {
                        0 => nr,
                        4 => arch,
                        8 => ip as u32,
                        12 => (ip >> 32) as u32,
                        16 | 24 => arg,
                        k => panic!("offset {k}"),
                    }
                }
                EQUAL => at += usize::from(if acc == f.k { f.jt } else { f.jf }),
                AT_LEAST => at += usize::from(if acc >= f.k { f.jt } else { f.jf }),
                ANY_BIT => at += usize::from(if acc & f.k != 0 { f.jt } else { f.jf }),
                RET => return f.k,
                code => panic!("code {code:#x}"),
            }
        }
    }

    #[test]
    fn the_filter_allows_what_is_listed_from_the_runtime_only() {
        let len = 0x40_0000;
        let prog = filter(len);
        assert!(prog.len() < 512, "{} instructions", prog.len());
        let denied = RET_ERRNO | libc::EPERM as u32;
        for nr in (0..1024).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            let listed = ALLOWED.contains(&i64::from(nr));
            let expected = match i64::from(nr) {
                libc::SYS_clone3 => RET_ERRNO | libc::ENOSYS as u32,
                _ if listed => RET_ALLOW,
                _ => denied,
            };
            for ip in [RUNTIME_BASE, RUNTIME_BASE + len / 2, RUNTIME_BASE + len - 1] {
                assert_eq!(answer(&prog, nr, ARCH_X86_64, ip), expected, "{nr} at {ip:#x}");
                assert_eq!(answer(&prog, nr, 0x4000_0003, ip), RET_TRAP, "i386 {nr}");
            }
            for ip in [
                0,
                0x1000,
                RUNTIME_BASE - 1,
                RUNTIME_BASE + len,
                0xffff_ffff_ff60_0000,
            ] {
                assert_eq!(answer(&prog, nr, ARCH_X86_64, ip), RET_TRAP, "{nr} at {ip:#x}");
            }
        }
    }

    #[test]
    fn copies_share_the_namespaces() {
        let prog = filter(0x1000);
        let clone = |flags: i32| {
            answer_with(
                &prog,
                libc::SYS_clone as u32,
                ARCH_X86_64,
                RUNTIME_BASE,
                flags as u32,
            )
        };
        assert_eq!(
            clone(libc::CLONE_FILES | libc::CLONE_PARENT | libc::SIGCHLD),
            RET_ALLOW
        );
        for flag in [
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWNS,
            libc::CLONE_NEWCGROUP,
        ] {
            assert_eq!(clone(libc::SIGCHLD | flag), RET_ERRNO | libc::EPERM as u32);
        }
    }

    #[test]
    fn nobody_elses_priority_is_changed() {
        let prog = filter(0x1000);
        let of = |who| {
            answer_with(
                &prog,
                libc::SYS_setpriority as u32,
                ARCH_X86_64,
                RUNTIME_BASE,
                who,
            )
        };
        assert_eq!(of(0), RET_ALLOW);
        assert_eq!(of(1), RET_ERRNO | libc::EPERM as u32);
    }

    #[test]
    fn nobody_types_into_the_terminal() {
        let prog = filter(0x1000);
        let ioctl =
            |request: u32| answer_with(&prog, libc::SYS_ioctl as u32, ARCH_X86_64, RUNTIME_BASE, request);
        for request in [libc::TIOCSTI as u32, TIOCLINUX] {
            assert_eq!(ioctl(request), RET_ERRNO | libc::EPERM as u32);
        }
        for request in [libc::TIOCGWINSZ as u32, libc::FIONREAD as u32] {
            assert_eq!(ioctl(request), RET_ALLOW);
        }
    }

    #[test]
    fn boundaries_join_neighbours_and_twins() {
        assert_eq!(boundaries(vec![3, 1, 2, 2, 9]), [1, 4, 9, 10]);
        assert_eq!(boundaries(vec![]), [0u32; 0]);
    }
}
