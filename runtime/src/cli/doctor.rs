//! `ftvm doctor`: what this host lacks, and how to get it. Each check tries the thing itself where
//! that is possible without a privilege.

use super::state::SCHEMA;
use crate::dirty::Tracker;
use crate::{sys, vcpu};
use serde_json::json;
use std::os::fd::{FromRawFd, OwnedFd};

/// Exit code when something that `run` needs is missing.
const EXIT_INCOMPATIBLE: i32 = 3;

/// Options of `doctor`.
#[derive(clap::Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Who needs it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing works without it.
    Run,
    /// `record` of programs that must be preempted; snapshots later.
    Record,
    /// Things go slower or a feature is missing.
    Useful,
}

impl Need {
    fn word(self) -> &'static str {
        match self {
            Need::Run => "run",
            Need::Record => "record",
            Need::Useful => "useful",
        }
    }
}

struct Finding {
    name: &'static str,
    need: Need,
    good: bool,
    found: String,
    remedy: &'static str,
}

/// `doctor`
pub fn doctor(args: &DoctorArgs) -> i32 {
    let findings = findings();
    let broken = |n: Need| findings.iter().any(|f| f.need == n && !f.good);
    let (run, record) = (!broken(Need::Run), !broken(Need::Run) && !broken(Need::Record));
    if args.json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| {
                let remedy = (!f.good).then_some(f.remedy);
                json!({"check": f.name, "need": f.need.word(), "good": f.good, "found": f.found, "remedy": remedy})
            })
            .collect();
        println!(
            "{}",
            json!({"version": SCHEMA, "run": run, "record": record, "checks": list})
        );
    } else {
        for f in &findings {
            let mark = match (f.good, f.need) {
                (true, _) => "good",
                (false, Need::Run) => "MISSING",
                (false, _) => "missing",
            };
            println!("{mark:<8} {:<22} {}", f.name, f.found);
            if !f.good {
                println!("{:<8} {:<22} needed for: {}; {}", "", "", f.need.word(), f.remedy);
            }
        }
        let record = if record {
            "yes"
        } else {
            "only programs that need no preemption"
        };
        println!(
            "run: {}; record: {}",
            if run { "yes" } else { "no" },
            if run { record } else { "no" }
        );
    }
    if run { 0 } else { EXIT_INCOMPATIBLE }
}

fn findings() -> Vec<Finding> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let version = kernel_version(release);
    let finding = |name, need, good, found: String, remedy| Finding {
        name,
        need,
        good,
        found,
        remedy,
    };
    let yes_no = |b: bool| {
        if b {
            "works".to_string()
        } else {
            "refused".to_string()
        }
    };
    let mut list = vec![
        finding(
            "kernel 5.11",
            Need::Run,
            version >= (5, 11),
            format!("Linux {release}"),
            "boot Linux 5.11 or later",
        ),
        finding(
            "FSGSBASE",
            Need::Run,
            vcpu::has_fsgsbase(),
            yes_no(vcpu::has_fsgsbase()),
            "needs a CPU made since 2012 and a kernel without nofsgsbase; in a virtual machine, a CPU model that shows it",
        ),
    ];
    let dispatch = user_dispatch();
    list.push(finding(
        "syscall user dispatch",
        Need::Run,
        dispatch.is_ok(),
        outcome(&dispatch),
        "allow prctl(PR_SET_SYSCALL_USER_DISPATCH): a container's seccomp profile may refuse it, gVisor and WSL1 lack it",
    ));
    let filter = in_child(seccomp_filter);
    list.push(finding(
        "seccomp filter",
        Need::Run,
        filter,
        yes_no(filter),
        "a kernel with CONFIG_SECCOMP_FILTER; a container's profile must allow seccomp(2)",
    ));
    let arenas = arenas();
    list.push(finding(
        "shared memory",
        Need::Run,
        arenas.is_ok(),
        outcome(&arenas),
        "ulimit -v unlimited; ulimit -f unlimited; sysctl vm.overcommit_memory=0 or 1",
    ));
    let tracking = tracking();
    list.push(finding(
        "dirty tracking",
        Need::Record,
        version >= (6, 7) && tracking.is_ok(),
        outcome(&tracking),
        "Linux 6.7 or later (Debian 12: the backports kernel) with CONFIG_USERFAULTFD and CONFIG_PTE_MARKER_UFFD_WP",
    ));
    list.extend(useful(finding));
    list
}

fn useful(finding: impl Fn(&'static str, Need, bool, String, &'static str) -> Finding) -> Vec<Finding> {
    let tsc = std::arch::x86_64::__cpuid(0x8000_0007).edx & (1 << 8) != 0;
    let files = limit(libc::RLIMIT_NOFILE);
    let tasks = limit(libc::RLIMIT_NPROC);
    let spaces = in_child(namespaces);
    let yama = number("/proc/sys/kernel/yama/ptrace_scope");
    let maps = number("/proc/sys/vm/max_map_count");
    let show = |(soft, hard): (u64, u64)| {
        let one = |v: u64| {
            if v == libc::RLIM_INFINITY {
                "unlimited".into()
            } else {
                v.to_string()
            }
        };
        format!("{} (hard {})", one(soft), one(hard))
    };
    vec![
        finding(
            "invariant TSC",
            Need::Useful,
            tsc,
            if tsc { "yes" } else { "no" }.into(),
            "clock reads are slower without it: a CPU model with invtsc",
        ),
        finding(
            "open files",
            Need::Useful,
            files.0 >= 1024,
            show(files),
            "ulimit -n 4096: every open host file and socket of the image takes one",
        ),
        finding(
            "processes",
            Need::Useful,
            tasks.0 >= 256,
            show(tasks),
            "ulimit -u 4096: one per guest process",
        ),
        finding(
            "memory maps",
            Need::Useful,
            maps.is_none_or(|m| m >= 65_530),
            maps.map_or("unknown".into(), |m| m.to_string()),
            "sysctl vm.max_map_count=65530 or more, as for the program natively",
        ),
        finding(
            "user namespaces",
            Need::Useful,
            spaces,
            if spaces {
                "a user and a network namespace can be had"
            } else {
                "refused"
            }
            .into(),
            "sysctl kernel.unprivileged_userns_clone=1 or user.max_user_namespaces; only tests of own addresses use it",
        ),
        finding(
            "ptrace scope",
            Need::Useful,
            yama.is_none_or(|y| y <= 1),
            yama.map_or("no Yama".into(), |y| format!("kernel.yama.ptrace_scope={y}")),
            "sysctl kernel.yama.ptrace_scope=1: snapshots and backups read the memory of the image's processes",
        ),
    ]
}

fn outcome(r: &Result<(), sys::HostErr>) -> String {
    match r {
        Ok(()) => "works".into(),
        Err(e) => super::options::reason(&std::io::Error::from_raw_os_error(e.0)),
    }
}

fn kernel_version(release: &str) -> (u32, u32) {
    let mut parts = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn limit(which: libc::__rlimit_resource_t) -> (u64, u64) {
    let mut l = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: valid pointer.
    unsafe { libc::getrlimit(which, &mut l) };
    (l.rlim_cur, l.rlim_max)
}

/// Turns the dispatch on with everything allowed, and off again.
fn user_dispatch() -> Result<(), sys::HostErr> {
    const SET: i32 = 59;
    let selector = 0u8;
    // SAFETY: the selector says "allow" and lives until dispatch is off.
    unsafe {
        sys::sys!(
            libc::SYS_prctl,
            SET,
            1,
            0,
            0x7fff_ffff_f000_u64,
            &raw const selector
        )?;
        sys::sys!(libc::SYS_prctl, SET, 0, 0, 0, 0)?;
    }
    Ok(())
}

/// A memfd of the largest arena, mapped: nothing is written.
fn arenas() -> Result<(), sys::HostErr> {
    let len = ftl_core::layout::PAGES_LEN;
    let fd = sys::memfd(c"ftvm-doctor", len)?;
    // SAFETY: a new descriptor; the mapping is where the host likes, and goes away at once.
    unsafe {
        let _fd = OwnedFd::from_raw_fd(fd);
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        let at = sys::mmap(0, len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0)?;
        sys::sys!(libc::SYS_munmap, at, len)?;
    }
    Ok(())
}

/// Writes to one of two protected pages and asks which it was.
fn tracking() -> Result<(), sys::HostErr> {
    const PAGE: u64 = ftl_core::layout::PAGE;
    let tracker = Tracker::new()?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: two fresh pages of our own.
    unsafe {
        let at = sys::mmap(0, 2 * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)?;
        let (a, b) = (at as *mut u8, (at + PAGE) as *mut u8);
        a.write_volatile(1);
        b.write_volatile(1);
        tracker.protect(at, at + 2 * PAGE, |_, _| {});
        b.write_volatile(2);
        let mut found = Vec::new();
        tracker.written(at, at + 2 * PAGE, false, |s, e| found.push((s, e)));
        sys::sys!(libc::SYS_munmap, at, 2 * PAGE)?;
        if found == [(at + PAGE, at + 2 * PAGE)] {
            Ok(())
        } else {
            Err(sys::HostErr(libc::EOPNOTSUPP))
        }
    }
}

/// True if `test` says so in a process of its own: what it does cannot be taken back.
fn in_child(test: fn() -> bool) -> bool {
    // SAFETY: one thread; the child makes plain calls and ends.
    unsafe {
        match libc::fork() {
            -1 => false,
            0 => libc::_exit(i32::from(!test())),
            pid => {
                let mut status = 0;
                libc::waitpid(pid, &mut status, 0) == pid && status == 0
            }
        }
    }
}

fn seccomp_filter() -> bool {
    const RET_ALLOW: u32 = 0x7fff_0000;
    let code = [libc::sock_filter {
        code: 6,
        jt: 0,
        jf: 0,
        k: RET_ALLOW,
    }];
    let prog = libc::sock_fprog {
        len: 1,
        filter: code.as_ptr().cast_mut(),
    };
    // SAFETY: a filter that allows everything, in a process that ends next.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(libc::SYS_seccomp, 1, 0, &raw const prog) == 0
    }
}

fn namespaces() -> bool {
    // SAFETY: affects only this process, which ends next.
    unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) == 0 }
}
