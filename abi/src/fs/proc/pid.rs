//! /proc/PID.

use super::{Subject, maps};
use crate::cx::Cx;
use crate::fs::perm;
use crate::mm::Mm;
use crate::task::Exit;
use ftl_core::errno::Errno;
use ftl_core::io::Io;
use ftl_core::wait::State;
use std::fmt::Write;
use std::rc::Rc;

/// A file of /proc/PID.
pub struct PidItem {
    /// Name.
    pub name: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// Contents.
    pub make: fn(&mut Cx<'_>, &Subject) -> Io<Vec<u8>>,
}

const fn item(name: &'static str, mode: u32, make: fn(&mut Cx<'_>, &Subject) -> Io<Vec<u8>>) -> PidItem {
    PidItem { name, mode, make }
}

/// All of them.
pub static ITEMS: &[PidItem] = &[
    item("autogroup", 0o644, |_, _| Ok(b"/autogroup-1 nice 0\n".to_vec())),
    item("auxv", 0o400, |_, s| Ok(s.proc.auxv.borrow().clone())),
    item("cgroup", 0o444, |_, _| Ok(b"0::/\n".to_vec())),
    item("clear_refs", 0o200, |_, _| Ok(Vec::new())),
    item("cmdline", 0o444, cmdline),
    item("comm", 0o644, |_, s| Ok([name(s), b"\n".to_vec()].concat())),
    item("coredump_filter", 0o644, |_, _| Ok(b"00000033\n".to_vec())),
    item("cpuset", 0o444, |_, _| Ok(b"/\n".to_vec())),
    item("environ", 0o400, |_, s| Ok(s.proc.environ.borrow().clone())),
    item("gid_map", 0o644, |_, _| {
        Ok(b"         0          0 4294967295\n".to_vec())
    }),
    item("io", 0o400, |_, _| {
        Ok(b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n".to_vec())
    }),
    item("limits", 0o444, limits),
    item("loginuid", 0o644, |_, _| Ok(b"4294967295".to_vec())),
    item("maps", 0o444, |cx, s| with_mm(cx, s, maps::maps)),
    // Not made as text: see the module of that name.
    item("mem", 0o600, |_, _| Ok(Vec::new())),
    item("mountinfo", 0o444, |cx, _| Ok(super::global::mountinfo(cx))),
    item("mounts", 0o444, |cx, _| Ok(super::global::mounts(cx))),
    item("oom_adj", 0o644, |_, _| Ok(b"0\n".to_vec())),
    item("oom_score", 0o444, |_, _| Ok(b"0\n".to_vec())),
    item("oom_score_adj", 0o644, |_, _| Ok(b"0\n".to_vec())),
    item("personality", 0o400, |_, _| Ok(b"00000000\n".to_vec())),
    item("sched", 0o644, |_, s| {
        Ok(format!(
            "{} ({}, #threads: {})\n",
            String::from_utf8_lossy(&name(s)),
            s.id(),
            s.proc.threads.borrow().len()
        )
        .into_bytes())
    }),
    item("schedstat", 0o444, |_, s| {
        Ok(format!("{} 0 1\n", s.task.as_ref().map_or(0, |t| t.cpu_ns.get())).into_bytes())
    }),
    item("sessionid", 0o444, |_, _| Ok(b"4294967295".to_vec())),
    item("setgroups", 0o644, |_, _| Ok(b"allow\n".to_vec())),
    item("smaps", 0o444, |cx, s| with_mm(cx, s, maps::smaps)),
    item("smaps_rollup", 0o444, |cx, s| with_mm(cx, s, maps::rollup)),
    item("stack", 0o400, |_, _| Ok(Vec::new())),
    item("stat", 0o444, stat),
    item("statm", 0o444, statm),
    item("status", 0o444, status),
    item("syscall", 0o400, |_, _| Ok(b"running\n".to_vec())),
    item("timerslack_ns", 0o666, |_, s| {
        Ok(format!("{}\n", s.task.as_ref().map_or(50_000, |t| t.sched.get().slack_ns)).into_bytes())
    }),
    item("uid_map", 0o644, |_, _| {
        Ok(b"         0          0 4294967295\n".to_vec())
    }),
    item("wchan", 0o444, |_, _| Ok(b"0".to_vec())),
];

fn with_mm(cx: &mut Cx<'_>, s: &Subject, f: fn(&mut Cx<'_>, &Mm) -> Vec<u8>) -> Io<Vec<u8>> {
    match mm(s) {
        Some(mm) => Ok(f(cx, &mm)),
        None => Ok(Vec::new()),
    }
}

fn mm(s: &Subject) -> Option<Rc<Mm>> {
    s.task.as_ref().map(|t| t.mm())
}

fn name(s: &Subject) -> Vec<u8> {
    let raw = s.task.as_ref().map_or(s.proc.zombie_name.get(), |t| t.name.get());
    let n = raw.iter().position(|b| *b == 0).unwrap_or(16);
    raw[..n].to_vec()
}

/// argv as it is in the process's memory now, if it is the caller's; else as at exec.
fn cmdline(cx: &mut Cx<'_>, s: &Subject) -> Io<Vec<u8>> {
    let Some(mm) = mm(s) else {
        return Ok(Vec::new());
    };
    let l = mm.layout.get();
    if mm.space == cx.task.mm().space && l.arg_end > l.arg_start && l.arg_end - l.arg_start < 1 << 21 {
        let mut buf = vec![0; (l.arg_end - l.arg_start) as usize];
        if cx.read(l.arg_start, &mut buf).is_ok() {
            return Ok(buf);
        }
    }
    Ok(s.proc.cmdline.borrow().clone())
}

fn state(cx: &Cx<'_>, s: &Subject) -> char {
    match &s.task {
        None => 'Z',
        Some(t) if t.tid == cx.task.tid => 'R',
        Some(t) if t.trace.is_stopped() => 't',
        Some(_) if s.proc.job.get().stopped.is_some() => 'T',
        Some(t) => match t.entity.state.get() {
            State::Runnable => 'R',
            State::Blocked => {
                if t.entity.interruptible.get() {
                    'S'
                } else {
                    'D'
                }
            }
            State::Stopped => 'T',
            State::Dead => 'X',
        },
    }
}

fn ppid(s: &Subject) -> u32 {
    s.proc.parent_pid()
}

fn tty_nr(cx: &mut Cx<'_>, s: &Subject) -> (u64, i64) {
    let session = cx.k.session_of(&s.proc);
    let tty = session.tty.borrow().clone();
    match tty {
        None => (0, -1),
        Some(t) => {
            let rdev = t.stat(&mut cx.env).map_or(0, |st| st.rdev);
            (rdev, i64::from(session.foreground.get().0))
        }
    }
}

/// CPU time in clock ticks: of the thread or the whole process, and of waited-for children.
fn ticks(s: &Subject) -> (u64, u64) {
    const TICK: u64 = 10_000_000;
    let (ended, children) = s.proc.cpu_ns.get();
    if s.thread {
        return (s.task.as_ref().map_or(0, |t| t.cpu_ns.get()) / TICK, 0);
    }
    let live: u64 = s.proc.threads.borrow().values().map(|t| t.cpu_ns.get()).sum();
    ((live + ended) / TICK, children / TICK)
}

fn stat(cx: &mut Cx<'_>, s: &Subject) -> Io<Vec<u8>> {
    let mm = mm(s);
    let l = mm.as_ref().map(|m| m.layout.get()).unwrap_or_default();
    let (vsize, brk) = mm.as_ref().map_or((0, 0), |m| (m.mapped.get(), m.brk.get().0));
    let (tty, fg) = tty_nr(cx, s);
    let (utime, cutime) = ticks(s);
    let sched = s.task.as_ref().map(|t| t.sched.get());
    let nice = sched.map_or(0, |x| x.nice);
    let (policy, prio) = sched.map_or((0, 0), |x| (x.policy, x.priority));
    let threads = s.proc.threads.borrow().len();
    let rss = resident(mm.as_deref()) / 4096;
    let rsslim = s.proc.rlimits.borrow()[5].0;
    let exit = s.proc.exit.get().map_or(0, Exit::status);
    let mask = s.task.as_ref().map_or(0, |t| t.sig.mask.get());
    let pending = s.task.as_ref().map_or(0, |t| t.sig.pending.set.get());
    let (ign, cgt) = dispositions(s);
    let start = s.proc.start_ns.get() / 10_000_000;
    let mut out = format!("{} (", s.id()).into_bytes();
    out.extend(name(s));
    let rest = format!(
        ") {} {} {} {} {} {} 4194304 0 0 0 0 {} 0 {} 0 {} {} {} 0 {} {} {} {} {} {} {} 0 0 {} {} {} {} 0 0 0 {} 0 {} {} 0 0 0 {} {} {} {} {} {} {} {}\n",
        state(cx, s),
        ppid(s),
        s.proc.pgid.get().0,
        s.proc.sid.get().0,
        tty,
        fg,
        utime,
        cutime,
        20 + nice,
        nice,
        threads,
        start,
        vsize,
        rss,
        rsslim,
        l.start_code,
        l.end_code,
        l.start_stack,
        pending & 0x7fff_ffff,
        mask & 0x7fff_ffff,
        ign & 0x7fff_ffff,
        cgt & 0x7fff_ffff,
        s.proc.exit_signal.get(),
        prio,
        policy,
        l.start_data,
        l.end_data,
        brk,
        l.arg_start,
        l.arg_end,
        l.env_start,
        l.env_end,
        exit,
    );
    out.extend(rest.into_bytes());
    Ok(out)
}

/// Signals ignored and caught.
fn dispositions(s: &Subject) -> (u64, u64) {
    let hand = s.proc.sighand.borrow().clone();
    let actions = hand.actions.borrow();
    let mut r = (0, 0);
    for (i, a) in actions.iter().enumerate() {
        match a.handler {
            0 => {}
            1 => r.0 |= 1 << i,
            _ => r.1 |= 1 << i,
        }
    }
    r
}

/// Bytes that count as resident: all that is mapped with any access.
fn resident(mm: Option<&Mm>) -> u64 {
    let list = mm.map(Mm::list).unwrap_or_default();
    list.iter()
        .filter(|v| !v.prot.is_empty() && v.kind != crate::mm::VmaKind::Stack)
        .map(crate::mm::Vma::len)
        .sum()
}

fn statm(_: &mut Cx<'_>, s: &Subject) -> Io<Vec<u8>> {
    let mm = mm(s);
    let size = mm.as_ref().map_or(0, |m| m.mapped.get()) / 4096;
    let l = mm.as_ref().map(|m| m.layout.get()).unwrap_or_default();
    let text = (l.end_code.saturating_sub(l.start_code)) / 4096;
    let rss = resident(mm.as_deref()) / 4096;
    Ok(format!("{size} {rss} {text} {text} 0 {} 0\n", rss.saturating_sub(text)).into_bytes())
}

fn status(cx: &mut Cx<'_>, s: &Subject) -> Io<Vec<u8>> {
    let mut o = String::new();
    let st = state(cx, s);
    let long = match st {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'T' => "stopped",
        't' => "tracing stop",
        'Z' => "zombie",
        _ => "dead",
    };
    let _ = writeln!(o, "Name:\t{}", String::from_utf8_lossy(&name(s)));
    if let Some(t) = &s.task {
        let _ = writeln!(o, "Umask:\t{:04o}", t.fs.borrow().umask.get());
    }
    let _ = writeln!(o, "State:\t{st} ({long})");
    let _ = writeln!(
        o,
        "Tgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}\nTracerPid:\t{}",
        s.proc.pid.0,
        s.id(),
        ppid(s),
        s.task.as_ref().map_or(0, |t| t.trace.tracer_pid())
    );
    let creds = s.task.as_ref().map(|t| t.creds.borrow().clone());
    if let Some(c) = &creds {
        let _ = writeln!(o, "Uid:\t{}\t{}\t{}\t{}", c.ruid, c.euid, c.suid, c.fsuid);
        let _ = writeln!(o, "Gid:\t{}\t{}\t{}\t{}", c.rgid, c.egid, c.sgid, c.fsgid);
    }
    if let Some(t) = &s.task {
        let _ = writeln!(o, "FDSize:\t{}", t.files().capacity());
    }
    if let Some(c) = &creds {
        let groups: String = c.groups.iter().map(|g| format!("{g} ")).collect();
        let _ = writeln!(o, "Groups:\t{groups}");
    }
    let (pid, pgid, sid) = (s.id(), s.proc.pgid.get().0, s.proc.sid.get().0);
    let _ = writeln!(
        o,
        "NStgid:\t{}\nNSpid:\t{pid}\nNSpgid:\t{pgid}\nNSsid:\t{sid}",
        s.proc.pid.0
    );
    if let Some(m) = mm(s) {
        let kb = |b: u64| b / 1024;
        let l = m.layout.get();
        let list = m.list();
        let sum = |f: &dyn Fn(&crate::mm::Vma) -> bool| -> u64 {
            list.iter().filter(|v| f(v)).map(|v| kb(v.len())).sum()
        };
        let stack = sum(&|v| v.kind == crate::mm::VmaKind::Stack);
        let file = sum(&|v| v.file.is_some() && !v.shared);
        let shared = sum(&|v| v.shared);
        let locked = sum(&|v| v.flags.contains(crate::mm::VmaFlags::LOCKED));
        let rss = kb(resident(Some(&m)));
        let exe = kb(l.end_code.saturating_sub(l.start_code));
        for (n, v) in [
            ("VmPeak", kb(m.peak.get())),
            ("VmSize", kb(m.mapped.get())),
            ("VmLck", locked),
            ("VmPin", 0),
            ("VmHWM", rss),
            ("VmRSS", rss),
            ("RssAnon", rss.saturating_sub(file + shared)),
            ("RssFile", file),
            ("RssShmem", shared),
            ("VmData", rss.saturating_sub(file)),
            ("VmStk", stack),
            ("VmExe", exe),
            ("VmLib", file.saturating_sub(exe)),
            ("VmPTE", 64),
            ("VmSwap", 0),
            ("HugetlbPages", 0),
        ] {
            let _ = writeln!(o, "{n}:\t{v:>8} kB");
        }
        let _ = writeln!(
            o,
            "CoreDumping:\t0\nTHP_enabled:\t{}",
            u8::from(!s.proc.thp_disable.get())
        );
    }
    let _ = writeln!(o, "Threads:\t{}", s.proc.threads.borrow().len());
    let limit = s.proc.rlimits.borrow()[11].0;
    let (ign, cgt) = dispositions(s);
    let (pend, mask) = s
        .task
        .as_ref()
        .map_or((0, 0), |t| (t.sig.pending.set.get(), t.sig.mask.get()));
    let _ = writeln!(o, "SigQ:\t{}/{limit}", s.proc.pending.queue.borrow().len());
    let _ = writeln!(
        o,
        "SigPnd:\t{pend:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{mask:016x}",
        s.proc.pending.set.get()
    );
    let _ = writeln!(o, "SigIgn:\t{ign:016x}\nSigCgt:\t{cgt:016x}");
    if let Some(c) = &creds {
        for (n, i) in [
            ("CapInh", 2),
            ("CapPrm", 1),
            ("CapEff", 0),
            ("CapBnd", 3),
            ("CapAmb", 4),
        ] {
            let _ = writeln!(o, "{n}:\t{:016x}", c.caps[i]);
        }
        let _ = writeln!(o, "NoNewPrivs:\t{}", u8::from(c.no_new_privs));
    }
    let seccomp = s
        .task
        .as_ref()
        .map_or((0, 0), |t| (t.seccomp.mode.get(), t.seccomp.count()));
    let _ = writeln!(o, "Seccomp:\t{}\nSeccomp_filters:\t{}", seccomp.0, seccomp.1);
    o.push_str("Speculation_Store_Bypass:\tvulnerable\nSpeculationIndirectBranch:\tconditional enabled\n");
    o.push_str("Cpus_allowed:\t1\nCpus_allowed_list:\t0\nMems_allowed:\t1\nMems_allowed_list:\t0\n");
    o.push_str("voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n");
    Ok(o.into_bytes())
}

fn limits(_: &mut Cx<'_>, s: &Subject) -> Io<Vec<u8>> {
    const NAMES: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let show = |v: u64| {
        if v == u64::MAX {
            "unlimited".to_string()
        } else {
            v.to_string()
        }
    };
    let mut o = format!(
        "{:<25} {:<20} {:<20} {:<10}\n",
        "Limit", "Soft Limit", "Hard Limit", "Units"
    );
    for ((name, unit), (soft, hard)) in NAMES.iter().zip(s.proc.rlimits.borrow().iter()) {
        let _ = writeln!(o, "{name:<25} {:<20} {:<20} {unit:<10}", show(*soft), show(*hard));
    }
    Ok(o.into_bytes())
}

/// /proc/PID/fdinfo/N
pub fn fdinfo(s: &Subject, fd: i32) -> Io<Vec<u8>> {
    let task = s.task.as_ref().ok_or(Errno::ENOENT)?;
    let files = task.files();
    let open = files.get(fd).map_err(|_| Errno::ENOENT)?;
    let mut flags = open.flags.get();
    if files.cloexec(fd).unwrap_or(false) {
        flags |= crate::fdtable::oflag::O_CLOEXEC;
    }
    let _ = perm::R;
    Ok(format!(
        "pos:\t{}\nflags:\t0{:o}\nmnt_id:\t21\nino:\t0\n",
        open.pos.get(),
        flags
    )
    .into_bytes())
}
