//! `ftvm run`.

use crate::run::{EXIT_FAILED, Spec, Start, boot};
use crate::{stage0, supervisor, vcpu};
use ftl_abi::fs::VolumeConfig;
use ftl_abi::kernel::Config;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The network that the program sees.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum NetMode {
    /// The host's: bind, listen and connect as the caller could
    Host,
    /// A loopback of its own, nothing else
    None,
}

/// Options of `run`.
#[derive(clap::Args)]
pub struct RunArgs {
    /// Print every system call to stderr, as strace does
    #[arg(long)]
    strace: bool,
    /// Most tasks (threads and processes) of the image
    #[arg(long, default_value_t = 32768)]
    pids: usize,
    /// The network that the program sees
    #[arg(long, value_enum, default_value = "host")]
    net: NetMode,
    /// Do not write the working directory through to the host
    #[arg(long)]
    no_cwd: bool,
    /// Show a host directory in the image, writable unless `:ro` follows: HOST:GUEST[:ro]
    #[arg(short = 'v', long = "volume", value_name = "HOST:GUEST[:ro]")]
    volumes: Vec<OsString>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// In the user's process: check what can be checked, then supervise.
pub fn outside(_args: &RunArgs) -> i32 {
    if !vcpu::has_fsgsbase() {
        eprintln!(
            "ftvm: this CPU or kernel has no FSGSBASE (Linux 5.9 or later on a CPU since 2012); needed to run"
        );
        return EXIT_FAILED;
    }
    supervisor::run()
}

/// In the guest process.
pub fn inside(args: &RunArgs) -> i32 {
    start(args, None)
}

/// Starts the program, recorded into `log` if there is one. Returns only when it could not be started.
pub fn start(args: &RunArgs, log: Option<PathBuf>) -> i32 {
    let Some(path) = find(&args.command[0]) else {
        eprintln!("ftvm: {}: not found", args.command[0].to_string_lossy());
        return 127;
    };
    let (code, why) = boot(|| {
        let spec = Spec {
            path: path.into_vec(),
            argv: args.command.iter().map(|a| a.as_bytes().to_vec()).collect(),
            envp: environment(),
            config: config(args),
            net_host: args.net == NetMode::Host,
        };
        Start::Fresh(spec, log)
    });
    eprintln!("ftvm: {why}");
    code
}

/// The user's environment without what stage 0 added.
fn environment() -> Vec<Vec<u8>> {
    std::env::vars_os()
        .filter(|(k, _)| k != "GLIBC_TUNABLES")
        .map(|(k, v)| {
            let k = if k == stage0::SAVED_TUNABLES {
                "GLIBC_TUNABLES".into()
            } else {
                k
            };
            let mut e = k.into_vec();
            e.push(b'=');
            e.extend(v.into_vec());
            e
        })
        .collect()
}

/// Finds a command as a shell does.
fn find(command: &OsString) -> Option<OsString> {
    if command.as_bytes().contains(&b'/') {
        return Some(command.clone());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .map(|d| d.join(command))
        .find(|p| p.is_file())
        .map(|p| p.into_os_string())
}

/// HOST:GUEST[:ro] as absolute paths; `None` if it is not of that form.
fn volume(spec: &OsString) -> Option<(Vec<u8>, Vec<u8>, bool)> {
    let mut parts = spec.as_bytes().split(|b| *b == b':');
    let (host, guest, mode) = (parts.next()?, parts.next()?, parts.next());
    let host = std::fs::canonicalize(std::ffi::OsStr::from_bytes(host)).ok()?;
    Some((
        host.into_os_string().into_vec(),
        guest.to_vec(),
        mode == Some(b"ro"),
    ))
}

/// Bytes of memory that the host has: what the image may believe to have.
fn host_memory() -> u64 {
    // SAFETY: plain queries.
    let (pages, size) = unsafe {
        (
            libc::sysconf(libc::_SC_PHYS_PAGES),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    (pages.max(1) as u64) * (size.max(1) as u64)
}

fn config(args: &RunArgs) -> Config {
    let (xsave_len, xcr0) = vcpu::xsave_facts();
    let mut rlimits = [(u64::MAX, u64::MAX); 16];
    for (i, r) in rlimits.iter_mut().enumerate() {
        let mut l = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: valid pointer.
        if unsafe { libc::getrlimit(i as libc::__rlimit_resource_t, &mut l) } == 0 {
            *r = (l.rlim_cur, l.rlim_max);
        }
    }
    // SAFETY: plain queries; umask is set back at once.
    let (uid, gid, umask, hwcap, hwcap2, min_stack) = unsafe {
        let m = libc::umask(0o22);
        libc::umask(m);
        (
            libc::getuid(),
            libc::getgid(),
            m,
            libc::getauxval(libc::AT_HWCAP),
            libc::getauxval(libc::AT_HWCAP2),
            libc::getauxval(libc::AT_MINSIGSTKSZ),
        )
    };
    let mut groups = vec![0; 256];
    // SAFETY: the buffer has room for 256 ids.
    let n = unsafe { libc::getgroups(256, groups.as_mut_ptr()) };
    groups.truncate(n.max(0) as usize);
    Config {
        hostname: std::fs::read("/proc/sys/kernel/hostname")
            .map_or(b"ftvm".to_vec(), |h| h.trim_ascii().to_vec()),
        kernel_release: "6.12.0-ftvm".to_string(),
        kernel_version: "#1 SMP PREEMPT_DYNAMIC ftvm".to_string(),
        uid,
        gid,
        groups,
        xsave_len,
        xcr0,
        // The second bit is FSGSBASE; rdrand and the like are the CPU's own until they go through the door.
        hwcap: (hwcap, hwcap2, min_stack),
        strace: args.strace,
        max_tasks: args.pids,
        memory: host_memory(),
        rlimits,
        umask,
        signals: crate::control::inherited_signals(),
        cwd: std::env::current_dir().map_or(b"/".to_vec(), |d| d.into_os_string().into_vec()),
        vdso: crate::vdso::image(),
        mounts: VolumeConfig {
            cwd: !args.no_cwd,
            volumes: args.volumes.iter().filter_map(|v| volume(v)).collect(),
        },
    }
}
