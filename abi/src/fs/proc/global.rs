//! /proc beside the processes.

use super::table::{Item, Make};
use crate::cx::Cx;
use crate::fs::Mount;
use std::fmt::Write;
use std::rc::Rc;

const fn text(path: &'static str, f: fn(&mut Cx<'_>) -> Vec<u8>) -> Item {
    Item {
        path,
        mode: 0o444,
        make: Make::Text(f),
    }
}

const fn fixed(path: &'static str, s: &'static str) -> Item {
    Item {
        path,
        mode: 0o444,
        make: Make::Const(s),
    }
}

const fn knob(path: &'static str, s: &'static str) -> Item {
    Item {
        path,
        mode: 0o644,
        make: Make::Const(s),
    }
}

const fn link(path: &'static str, to: &'static str) -> Item {
    Item {
        path,
        mode: 0o777,
        make: Make::Link(to),
    }
}

/// All of them.
pub static ITEMS: &[Item] = &[
    text("cmdline", |_| b"ftvm\n".to_vec()),
    text("cpuinfo", cpuinfo),
    fixed(
        "devices",
        "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n",
    ),
    fixed("diskstats", ""),
    fixed(
        "filesystems",
        "nodev\tproc\nnodev\tsysfs\nnodev\ttmpfs\nnodev\tdevtmpfs\nnodev\tdevpts\nnodev\toverlay\nnodev\tpipefs\nnodev\tsockfs\n",
    ),
    fixed("interrupts", "           CPU0       \n"),
    text("loadavg", loadavg),
    fixed("locks", ""),
    text("meminfo", meminfo),
    fixed("modules", ""),
    link("mounts", "self/mounts"),
    fixed("partitions", "major minor  #blocks  name\n\n"),
    text("stat", stat),
    fixed("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
    text("uptime", uptime),
    text("version", version),
    text("vmstat", vmstat),
    fixed(
        "net/dev",
        "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n",
    ),
    fixed(
        "net/if_inet6",
        "00000000000000000000000000000001 01 80 10 80       lo\n",
    ),
    fixed(
        "net/route",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT                                                       \n",
    ),
    fixed(
        "net/tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n",
    ),
    fixed(
        "net/tcp6",
        "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
    ),
    fixed(
        "net/udp",
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops             \n",
    ),
    fixed(
        "net/udp6",
        "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n",
    ),
    fixed(
        "net/unix",
        "Num       RefCount Protocol Flags    Type St Inode Path\n",
    ),
    fixed(
        "pressure/cpu",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    ),
    fixed(
        "pressure/memory",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    ),
    fixed(
        "sysvipc/shm",
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n",
    ),
    knob("sys/fs/aio-max-nr", "65536\n"),
    knob("sys/fs/epoll/max_user_watches", "3578000\n"),
    knob("sys/fs/file-max", "9223372036854775807\n"),
    fixed("sys/fs/file-nr", "0\t0\t9223372036854775807\n"),
    knob("sys/fs/inotify/max_queued_events", "16384\n"),
    knob("sys/fs/inotify/max_user_instances", "128\n"),
    knob("sys/fs/inotify/max_user_watches", "65536\n"),
    knob("sys/fs/mqueue/msg_max", "10\n"),
    knob("sys/fs/mqueue/msgsize_max", "8192\n"),
    knob("sys/fs/mqueue/queues_max", "256\n"),
    knob("sys/fs/nr_open", "1048576\n"),
    knob("sys/fs/pipe-max-size", "1048576\n"),
    knob("sys/fs/protected_hardlinks", "0\n"),
    knob("sys/fs/protected_symlinks", "0\n"),
    knob("sys/fs/suid_dumpable", "0\n"),
    fixed("sys/kernel/cap_last_cap", "40\n"),
    knob("sys/kernel/core_pattern", "core\n"),
    knob("sys/kernel/core_uses_pid", "0\n"),
    knob("sys/kernel/domainname", "(none)\n"),
    text("sys/kernel/hostname", |cx| {
        [cx.k.config.hostname.clone(), b"\n".to_vec()].concat()
    }),
    knob("sys/kernel/kptr_restrict", "0\n"),
    knob("sys/kernel/msgmax", "8192\n"),
    knob("sys/kernel/msgmnb", "16384\n"),
    knob("sys/kernel/msgmni", "32000\n"),
    fixed("sys/kernel/ngroups_max", "65536\n"),
    text("sys/kernel/osrelease", |cx| {
        format!("{}\n", cx.k.config.kernel_release).into_bytes()
    }),
    fixed("sys/kernel/ostype", "Linux\n"),
    fixed("sys/kernel/overflowgid", "65534\n"),
    fixed("sys/kernel/overflowuid", "65534\n"),
    knob("sys/kernel/panic", "0\n"),
    knob("sys/kernel/perf_event_paranoid", "3\n"),
    knob("sys/kernel/pid_max", "4194304\n"),
    text("sys/kernel/random/boot_id", boot_id),
    fixed("sys/kernel/random/entropy_avail", "256\n"),
    fixed("sys/kernel/random/poolsize", "256\n"),
    text("sys/kernel/random/uuid", uuid),
    knob("sys/kernel/randomize_va_space", "2\n"),
    knob("sys/kernel/sched_child_runs_first", "0\n"),
    knob("sys/kernel/sem", "32000\t1024000000\t500\t32000\n"),
    knob("sys/kernel/shmall", "18446744073692774399\n"),
    knob("sys/kernel/shmmax", "18446744073692774399\n"),
    knob("sys/kernel/shmmni", "4096\n"),
    text("sys/kernel/threads-max", |cx| {
        format!("{}\n", cx.k.config.max_tasks).into_bytes()
    }),
    text("sys/kernel/version", |cx| {
        format!("{}\n", cx.k.config.kernel_version).into_bytes()
    }),
    knob("sys/kernel/yama/ptrace_scope", "1\n"),
    knob("sys/net/core/somaxconn", "4096\n"),
    knob("sys/net/core/rmem_default", "212992\n"),
    knob("sys/net/core/rmem_max", "212992\n"),
    knob("sys/net/core/wmem_default", "212992\n"),
    knob("sys/net/core/wmem_max", "212992\n"),
    knob("sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    knob("sys/net/ipv4/tcp_fin_timeout", "60\n"),
    knob("sys/net/ipv4/tcp_max_syn_backlog", "512\n"),
    knob("sys/net/ipv4/tcp_keepalive_time", "7200\n"),
    knob("sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
    knob("sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
    knob("sys/net/ipv6/bindv6only", "0\n"),
    knob("sys/net/ipv6/conf/all/disable_ipv6", "0\n"),
    knob("sys/vm/max_map_count", "65530\n"),
    fixed("sys/vm/mmap_min_addr", "65536\n"),
    knob("sys/vm/nr_hugepages", "0\n"),
    knob("sys/vm/overcommit_memory", "1\n"),
    knob("sys/vm/overcommit_ratio", "50\n"),
    knob("sys/vm/swappiness", "60\n"),
];

/// Memory of the image, and what of it is not used, in bytes.
fn memory(cx: &Cx<'_>) -> (u64, u64) {
    let total = cx.k.config.ram();
    let used = cx.k.committed();
    (total, total.saturating_sub(used))
}

fn meminfo(cx: &mut Cx<'_>) -> Vec<u8> {
    let (total, free) = memory(cx);
    let shm = cx.k.fs.pages.used.get() * 4;
    let mut o = String::new();
    for (n, v) in [
        ("MemTotal", total / 1024),
        ("MemFree", free / 1024),
        ("MemAvailable", free / 1024),
        ("Buffers", 0),
        ("Cached", shm),
        ("SwapCached", 0),
        ("Active", 0),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", 0),
        ("Mapped", 0),
        ("Shmem", shm),
        ("KReclaimable", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("CommitLimit", total / 2048),
        ("Committed_AS", 0),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", 0),
    ] {
        let _ = writeln!(o, "{:<16}{v:>8} kB", format!("{n}:"));
    }
    o.push_str("HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\nHugepagesize:       2048 kB\n");
    o.into_bytes()
}

/// /sys/devices/system/node/node0/meminfo
pub fn node_meminfo(cx: &mut Cx<'_>) -> Vec<u8> {
    let (total, free) = memory(cx);
    format!(
        "Node 0 MemTotal:       {} kB\nNode 0 MemFree:        {} kB\n",
        total / 1024,
        free / 1024
    )
    .into_bytes()
}

/// memory.max of the image's cgroup.
pub fn memory_max(cx: &mut Cx<'_>) -> Vec<u8> {
    match cx.k.config.memory {
        u64::MAX => b"max\n".to_vec(),
        n => format!("{}\n", n & !4095).into_bytes(),
    }
}

/// memory.current
pub fn memory_current(cx: &mut Cx<'_>) -> Vec<u8> {
    let (total, free) = memory(cx);
    format!("{}\n", total - free).into_bytes()
}

/// pids.max
pub fn pids_max(cx: &mut Cx<'_>) -> Vec<u8> {
    format!("{}\n", cx.k.config.max_tasks).into_bytes()
}

/// cgroup.procs
pub fn cgroup_procs(cx: &mut Cx<'_>) -> Vec<u8> {
    let mut o = String::new();
    for p in cx.k.procs.borrow().keys() {
        let _ = writeln!(o, "{}", p.0);
    }
    o.into_bytes()
}

fn cpuinfo(_: &mut Cx<'_>) -> Vec<u8> {
    b"processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: FTLinux virtual CPU (x86-64-v3)\nstepping\t: 0\nmicrocode\t: 0x1\ncpu MHz\t\t: 2000.000\ncache size\t: 16384 KB\nphysical id\t: 0\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\napicid\t\t: 0\ninitial apicid\t: 0\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 13\nwp\t\t: yes\nflags\t\t: fpu tsc cx8 cmov mmx fxsr sse sse2 syscall nx lm constant_tsc nopl cpuid pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c lahf_lm abm bmi1 avx2 bmi2\nbugs\t\t:\nbogomips\t: 4000.00\nclflush size\t: 64\ncache_alignment\t: 64\naddress sizes\t: 46 bits physical, 48 bits virtual\npower management:\n\n".to_vec()
}

/// CPU time used by all tasks, in ticks, and time since start, in ns.
fn busy(cx: &Cx<'_>) -> (u64, u64) {
    let used: u64 = cx.k.tasks.borrow().values().map(|t| t.cpu_ns.get()).sum();
    let up = cx.env.core.clock.last();
    (used / 10_000_000, up)
}

fn stat(cx: &mut Cx<'_>) -> Vec<u8> {
    cx.env.now();
    let (user, up) = busy(cx);
    let idle = (up / 10_000_000).saturating_sub(user);
    let real = cx.env.core.clock.real_offset.get() as i64;
    let btime = real.div_euclid(1_000_000_000);
    let running = 1 + usize::from(!cx.env.core.run.is_empty());
    let procs = cx.k.procs.borrow().keys().next_back().map_or(1, |p| p.0);
    format!(
        "cpu  {user} 0 0 {idle} 0 0 0 0 0 0\ncpu0 {user} 0 0 {idle} 0 0 0 0 0 0\nintr 0\nctxt 0\nbtime {btime}\nprocesses {procs}\nprocs_running {running}\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n"
    )
    .into_bytes()
}

fn uptime(cx: &mut Cx<'_>) -> Vec<u8> {
    let cs = cx.env.now() / 10_000_000;
    let (user, _) = busy(cx);
    let idle = cs.saturating_sub(user);
    format!("{}.{:02} {}.{:02}\n", cs / 100, cs % 100, idle / 100, idle % 100).into_bytes()
}

fn loadavg(cx: &mut Cx<'_>) -> Vec<u8> {
    let tasks = cx.k.tasks.borrow();
    let last = tasks.keys().next_back().map_or(1, |t| t.0);
    format!("0.00 0.00 0.00 1/{} {last}\n", tasks.len()).into_bytes()
}

fn version(cx: &mut Cx<'_>) -> Vec<u8> {
    let c = &cx.k.config;
    format!(
        "Linux version {} (ftvm) (rustc) {}\n",
        c.kernel_release, c.kernel_version
    )
    .into_bytes()
}

fn vmstat(cx: &mut Cx<'_>) -> Vec<u8> {
    let (_, free) = memory(cx);
    format!(
        "nr_free_pages {}\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault 0\npgmajfault 0\n",
        free / 4096
    )
    .into_bytes()
}

fn format_uuid(b: &[u8; 16]) -> Vec<u8> {
    let mut o = String::new();
    for (i, x) in b.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            o.push('-');
        }
        let _ = write!(o, "{x:02x}");
    }
    o.push('\n');
    o.into_bytes()
}

fn uuid(cx: &mut Cx<'_>) -> Vec<u8> {
    let mut b = [0; 16];
    cx.env.core.random(&mut b);
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    format_uuid(&b)
}

fn boot_id(cx: &mut Cx<'_>) -> Vec<u8> {
    let mut b = cx.k.fs.boot_id.get();
    if b == [0; 16] {
        cx.env.core.random(&mut b);
        b[6] = b[6] & 0x0f | 0x40;
        b[8] = b[8] & 0x3f | 0x80;
        cx.k.fs.boot_id.set(b);
    }
    format_uuid(&b)
}

/// Mounts that lie below the caller's root, with the path that it sees.
fn seen(cx: &Cx<'_>) -> Vec<(Vec<u8>, Rc<Mount>)> {
    let fs = cx.task.fs.borrow().clone();
    let mut out = Vec::new();
    for m in cx.k.fs.mounts() {
        let loc = crate::fs::Loc {
            mount: m.clone(),
            path: Vec::new(),
        };
        let path = fs.seen(&loc);
        if path.first() == Some(&b'/') {
            out.push((path, m));
        }
    }
    out
}

fn escape(path: &[u8]) -> Vec<u8> {
    let mut o = Vec::new();
    for b in path {
        match b {
            b' ' | b'\t' | b'\n' | b'\\' => o.extend(format!("\\{b:03o}").into_bytes()),
            b => o.push(*b),
        }
    }
    o
}

/// /proc/PID/mounts
pub fn mounts(cx: &mut Cx<'_>) -> Vec<u8> {
    let mut o = Vec::new();
    for (path, m) in seen(cx) {
        o.extend(escape(&m.source));
        o.push(b' ');
        o.extend(escape(&path));
        o.extend(
            format!(
                " {} {},relatime 0 0\n",
                m.fs.kind(),
                if m.ro.get() { "ro" } else { "rw" }
            )
            .into_bytes(),
        );
    }
    o
}

/// /proc/PID/mountinfo
pub fn mountinfo(cx: &mut Cx<'_>) -> Vec<u8> {
    let mut o = Vec::new();
    for (path, m) in seen(cx) {
        let parent = m.at.as_ref().map_or(1, |a| a.mount.id);
        let dev = m.fs.stat(cx, b"").map_or(0, |s| s.dev);
        let rw = if m.ro.get() { "ro" } else { "rw" };
        o.extend(format!("{} {parent} {}:{} / ", m.id, dev >> 8 & 0xfff, dev & 0xff).into_bytes());
        o.extend(escape(&path));
        o.extend(format!(" {rw},relatime - {} ", m.fs.kind()).into_bytes());
        o.extend(escape(&m.source));
        o.extend(format!(" {rw}\n").into_bytes());
    }
    o
}
