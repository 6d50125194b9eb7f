//! `ftvm run`.

use super::{net, options, state};
use crate::platform::layer;
use crate::protect::ENV_PREFIX;
use crate::run::{EXIT_FAILED, Keep, Recording, Spec, Start, boot};
use crate::supervisor::{self, Image};
use crate::{stage0, talk, vcpu};
use ftl_abi::fs::VolumeConfig;
use ftl_abi::kernel::Config;
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// `--pids` if it is not given.
pub const PIDS: usize = 32_768;

/// Options of `run`.
#[derive(clap::Args)]
pub struct RunArgs {
    /// Run an image (`ftvm image`): its root, frozen, and what its ftvm.toml says; options given here win. ARGS, behind --
    /// if they begin with a -, replace the arguments of its command
    #[arg(long, value_name = "REF", conflicts_with = "rootfs")]
    pub(super) image: Option<String>,
    /// Refuse to run the image unless it has a signature by this key (minisign's public key)
    #[arg(long, value_name = "FILE", requires = "image")]
    pub(super) verify_key: Option<PathBuf>,
    /// Start the image's program anew, though a snapshot of the started program came with the image
    #[arg(long, requires = "image")]
    pub(super) cold: bool,
    /// File with the passphrase of the image's encrypted snapshot
    #[arg(long, value_name = "FILE", requires = "image")]
    pub(super) passphrase_file: Option<PathBuf>,
    /// The image's root and environment, when --image has been looked up.
    #[arg(skip)]
    pub(super) frozen: Option<super::from_image::Frozen>,
    /// Print every system call to stderr, as strace does
    #[arg(long)]
    strace: bool,
    /// Write ftvm's own lines on stderr as JSON objects, one a line, and one more when the run has ended
    #[arg(long, conflicts_with = "log_format")]
    pub json: bool,
    #[command(flatten)]
    pub(super) logs: super::logs::LineArgs,
    /// Run in the background; prints the name. Output goes to `ftvm logs NAME`
    #[arg(short, long)]
    detach: bool,
    /// Name of the run, for `ftvm ps`, `start`, `logs`, `stop`, `kill` and `rm`; what it writes outside the
    /// volumes is kept until `ftvm rm` [default for -d: made up]
    #[arg(long, value_name = "NAME", value_parser = options::run_name)]
    pub(super) name: Option<String>,
    /// Remove a named or detached run when it ends, and what it has written
    #[arg(long = "rm")]
    remove: bool,
    /// Set a variable, or take over (NAME alone) the caller's own value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(super) env: Vec<OsString>,
    /// Read variables from a file, one NAME[=VALUE] a line, # for comments
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Directory in the image to start in [default: the caller's; / with --rootfs]
    #[arg(short, long, value_name = "DIR")]
    pub(super) workdir: Option<OsString>,
    /// Ids that the program sees; access to host files stays the caller's [default: the caller's]
    #[arg(short, long, value_name = "root|UID[:GID]", value_parser = options::user)]
    pub(super) user: Option<(u32, u32)>,
    /// Supplementary groups that the program sees [default: the caller's; with --user its group]
    #[arg(long, value_name = "GID", value_delimiter = ',')]
    groups: Option<Vec<u32>>,
    /// With --user: the program's ids decide about host files too, as far as the caller's let them; what it makes is
    /// given to them
    #[arg(long, requires = "user")]
    user_files: bool,
    /// Capability sets that the program has in the image, in hex: effective, permitted, inheritable, bounding, ambient
    /// [default: all for root, none else, unbounded]
    #[arg(long, value_name = "EFF,PRM,INH,BND,AMB", value_parser = options::capabilities)]
    caps: Option<options::Capabilities>,
    /// The program cannot gain privileges (PR_SET_NO_NEW_PRIVS)
    #[arg(long)]
    no_new_privileges: bool,
    /// Limits that the program sees, as in nofile=1024:4096 (names as in prlimit(1)) [default: the caller's]
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = options::ulimit)]
    ulimit: Vec<options::Ulimit>,
    /// Host name that the program sees [default: the host's]
    #[arg(long, value_name = "NAME", value_parser = options::hostname)]
    pub(super) hostname: Option<String>,
    /// Most bytes of private memory of the image, as in 512m; ENOMEM beyond [default: the host's memory]
    #[arg(short, long, value_name = "SIZE", value_parser = options::size)]
    pub(super) memory: Option<u64>,
    /// Most tasks (threads and processes) of the image; EAGAIN beyond [default: 32768]
    #[arg(long, value_name = "N")]
    pub(super) pids: Option<usize>,
    /// Most CPU time, as a share of one CPU: 0.5 is half of it. An image uses one CPU at most [default: all of it]
    #[arg(long, value_name = "N", value_parser = options::cpus)]
    pub(super) cpus: Option<u32>,
    /// The network that the program sees: the host's, where it can bind, listen and connect as the caller
    /// could; none but a loopback of its own; or its own address on a host interface (repeat ip= for more
    /// addresses; needs CAP_NET_RAW, or a TAP device made for the caller) [default: host]
    #[arg(long, value_name = "host|none|IF,ip=ADDR/LEN[,gw=ADDR][,mac=MAC]", value_parser = net::parse)]
    pub(super) net: Option<net::Choice>,
    /// Host directory that is the image's root, under its writable layer; nothing of it is changed
    #[arg(long, value_name = "DIR")]
    pub(super) rootfs: Option<PathBuf>,
    /// What becomes of writes below --rootfs: they stay in a layer above it, they change it, or they fail (EROFS)
    #[arg(
        long,
        value_name = "layer|rw|ro",
        default_value = "layer",
        requires = "rootfs"
    )]
    pub(super) rootfs_mode: RootMode,
    /// Do not write the working directory through to the host
    #[arg(long)]
    no_cwd: bool,
    /// Show a host directory in the image, written through unless `:ro` follows
    #[arg(short = 'v', long = "volume", value_name = "HOST:GUEST[:ro]")]
    pub(super) volumes: Vec<OsString>,
    /// Give the program a secret (ftvm secret create) as the file /run/secrets/NAME, or as a variable; options as podman's:
    /// type=mount|env, target=NAME, uid=N, gid=N, mode=OCTAL. Snapshots of the image must be encrypted, and it is not recorded
    #[arg(long = "secret", value_name = "NAME[,OPTION...]", value_parser = super::secret::parse)]
    pub(super) secrets: Vec<super::secret::Wanted>,
    /// Commands around checkpoints: the image's own.
    #[arg(skip)]
    pub(super) hooks: ftl_abi::config::Hooks,
    #[command(flatten)]
    pub(super) protect: super::protect::ProtectArgs,
    /// Write a snapshot at this interval, as in 10m; files of volumes are taken as they are at the restore. The one
    /// before stays as FILE.1
    #[arg(long, value_name = "TIME", value_parser = options::interval, requires = "checkpoint_file")]
    checkpoint_every: Option<std::time::Duration>,
    /// File of --checkpoint-every
    #[arg(long, value_name = "FILE", requires = "checkpoint_every")]
    checkpoint_file: Option<PathBuf>,
    /// Let up to N snapshots of --checkpoint-every behind a whole one have only what has changed since the one before. What FILE
    /// needs lies beside it, as FILE.NUMBER.ftsnap, and so does the one before it
    #[arg(long, value_name = "N", default_value_t = 0, requires = "checkpoint_every", value_parser = clap::value_parser!(u32).range(..=256))]
    checkpoint_changes: u32,
    /// Let `ftvm record start NAME` record the run later: instructions that ask the CPU (cpuid, rdtsc, rdrand) are the
    /// image's to answer from the beginning
    #[arg(long)]
    pub(super) recordable: bool,
    #[command(flatten)]
    pub(super) health: super::health::HealthArgs,
    #[command(flatten)]
    tests: crate::snap::Tests,
    /// The program and its arguments
    #[arg(
        required_unless_present = "image",
        trailing_var_arg = true,
        value_name = "PROGRAM [ARGS]"
    )]
    pub(super) command: Vec<OsString>,
}

impl RunArgs {
    /// The network that was chosen.
    fn net(&self) -> &net::Choice {
        self.net.as_ref().unwrap_or(&net::Choice::Host)
    }
}

/// The first option that the program would have seen at its start, or that needs its start; of `--image` alone there is none.
pub fn changes_start(args: &RunArgs, image: &ftl_images::image::Image) -> Option<&'static str> {
    let recordable = image.app.as_ref().is_some_and(|a| a.recordable);
    let given = [
        (!args.command.is_empty(), "the command"),
        (args.strace, "--strace"),
        (!args.env.is_empty(), "-e"),
        (!args.env_file.is_empty(), "--env-file"),
        (args.workdir.is_some(), "-w"),
        (args.user.is_some(), "--user"),
        (args.groups.is_some(), "--groups"),
        (args.user_files, "--user-files"),
        (args.caps.is_some(), "--caps"),
        (args.no_new_privileges, "--no-new-privileges"),
        (!args.ulimit.is_empty(), "--ulimit"),
        (args.hostname.is_some(), "--hostname"),
        (args.memory.is_some(), "--memory"),
        (args.pids.is_some(), "--pids"),
        (args.cpus.is_some(), "--cpus"),
        (args.net.is_some(), "--net"),
        (!args.volumes.is_empty(), "-v"),
        (!args.secrets.is_empty(), "--secret"),
        (args.protect.on(), "--protect"),
        (args.recordable && !recordable, "--recordable"),
    ];
    given.into_iter().find_map(|(given, name)| given.then_some(name))
}

/// What becomes of writes below `--rootfs`.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub(super) enum RootMode {
    /// They stay in a layer above it.
    Layer,
    /// They change it.
    Rw,
    /// They fail.
    Ro,
}

/// In the user's process: check what can be checked, then supervise.
pub fn outside(args: &RunArgs, image: Image) -> i32 {
    let code = supervise(args, image);
    if !args.detach {
        talk::ended(code);
    }
    code
}

fn supervise(args: &RunArgs, image: Image) -> i32 {
    if !vcpu::has_fsgsbase() {
        talk::error(
            "incompatible",
            EXIT_FAILED,
            "FSGSBASE is missing: needs Linux 5.9 or later on a CPU made since 2012 (Ivy Bridge, Excavator); ftvm doctor tells more",
        );
        return EXIT_FAILED;
    }
    if let Err((code, why)) = spec(args) {
        talk::error(talk::code_of(code), code, &why);
        return code;
    }
    if let Err(why) = args
        .protect
        .prepare(args.frozen.as_ref().map(|f| f.name.as_slice()))
    {
        talk::error(talk::code_of(EXIT_FAILED), EXIT_FAILED, &why);
        return EXIT_FAILED;
    }
    if let (Some(interval), Some(file)) = (args.checkpoint_every, &args.checkpoint_file) {
        match std::path::absolute(file) {
            Ok(path) => crate::every::set(interval, path, args.checkpoint_changes),
            Err(e) => {
                super::say(&format!("--checkpoint-file {}: {e}", file.display()));
                return EXIT_FAILED;
            }
        }
    }
    match args.health.wanted() {
        Ok(None) => {}
        Ok(Some(_)) if !args.detach && args.name.is_none() && args.health.of_image => {
            super::say("a run without a name is not checked: --name, or -d, gives it one");
        }
        Ok(Some(_)) if !args.detach && args.name.is_none() => {
            let why = "--health-cmd: a run without a name has no place for what it says: give it one with --name, or -d";
            talk::error(talk::code_of(EXIT_FAILED), EXIT_FAILED, why);
            return EXIT_FAILED;
        }
        Ok(Some(health)) => crate::health::set(health),
        Err(why) => {
            talk::error(talk::code_of(EXIT_FAILED), EXIT_FAILED, &why);
            return EXIT_FAILED;
        }
    }
    if args.detach || args.name.is_some() {
        let manner = state::Manner {
            detach: args.detach,
            remove: args.remove,
            ..state::Manner::default()
        };
        return state::run(args.name.as_deref(), &args.command, manner, || {
            supervisor::run(image)
        });
    }
    // SAFETY: no other thread.
    unsafe { std::env::remove_var(layer::PLACE) };
    supervisor::run(image)
}

/// In the guest process.
pub fn inside(args: &RunArgs) -> i32 {
    args.tests.arm();
    super::warm::inside(args);
    start(args, None)
}

/// Starts the program, recorded if `log` says so.
pub fn start(args: &RunArgs, log: Option<Recording>) -> ! {
    let mut spec = match spec(args) {
        Ok(s) => s,
        Err(failure) => gave_up(failure),
    };
    spec.config.chaos = log.as_ref().and_then(|l| l.chaos);
    let net = String::new();
    let keep = match (log, args.protect.wanted(args.name.as_deref(), &net, args.memory)) {
        (_, Some(w)) => Keep::Backup(Box::new(w)),
        (Some(l), None) => Keep::Log(l),
        (None, None) => Keep::Nothing,
    };
    // Without a log the CPU's own answers do: they are nobody's business then.
    spec.config.cpu = (args.recordable || !matches!(keep, Keep::Nothing)).then(crate::cpu::table);
    gave_up(boot(|| Start::Fresh(Box::new(spec), keep)))
}

/// The program could not be started: says why, and tells the supervisor.
pub fn gave_up((code, why): (i32, String)) -> ! {
    talk::error(talk::code_of(code), code, &why);
    crate::run::die(code)
}

/// Everything that the image starts with; an exit code and a line if something cannot be had.
fn spec(args: &RunArgs) -> Result<Spec, (i32, String)> {
    let failed = |why| (EXIT_FAILED, why);
    let rootfs = match (&args.rootfs, &args.frozen) {
        (_, Some(frozen)) => frozen.name.clone(),
        (Some(dir), None) => options::directory(dir).map_err(|e| failed(format!("--rootfs {e}")))?,
        (None, None) => b"/".to_vec(),
    };
    let mut envp = environment(args).map_err(failed)?;
    let mut config = config(args).map_err(failed)?;
    let (vars, files) = super::secret::read(&args.secrets).map_err(failed)?;
    let name_of = |v: &[u8]| v.split(|b| *b == b'=').next().unwrap_or_default().to_vec();
    for var in vars {
        envp.retain(|v| name_of(v) != name_of(&var));
        envp.push(var);
    }
    config.secret = !args.secrets.is_empty();
    config.secrets = files.into();
    if config.secret {
        can_hold_secrets(args).map_err(|why| (EXIT_UNSUPPORTED, why))?;
    }
    config.net = net::config(args.net()).map_err(failed)?;
    if args.protect.on() {
        can_be_protected(args).map_err(|why| (EXIT_UNSUPPORTED, why))?;
    }
    let name = &args.command[0];
    let found = match &args.frozen {
        Some(frozen) => frozen.find(name, &envp),
        None => find(name, &rootfs, &envp),
    };
    let path = found.ok_or_else(|| {
        let why = format!(
            "{}: not found on the search path; name it with a /, or set PATH",
            name.to_string_lossy()
        );
        (127, why)
    })?;
    Ok(Spec {
        path,
        argv: args.command.iter().map(|a| a.as_bytes().to_vec()).collect(),
        envp,
        config,
        net_host: *args.net() == net::Choice::Host,
        interface: match args.net() {
            net::Choice::Own { interface, .. } => Some(interface.clone()),
            _ => None,
        },
        rootfs,
    })
}

/// What the option asks for cannot be done (USERS: 7).
pub const EXIT_UNSUPPORTED: i32 = 7;

/// Refuses to record what is protected; true if it does.
pub fn refuses_log(args: &RunArgs) -> bool {
    if !args.secrets.is_empty() {
        super::say(&format!("record --secret: {}", crate::snap::NOT_RECORDED));
        return true;
    }
    let refused = args.protect.on();
    if refused {
        super::say(
            "record: the log of a protected image goes to its backup, not to a file; use `ftvm run`, or leave out --protect",
        );
    }
    refused
}

/// Refuses what would write an image's memory in the clear.
fn can_hold_secrets(args: &RunArgs) -> Result<(), String> {
    if args.protect.in_the_clear() {
        return Err(
            "--secret: the image's memory goes to its backup: --tls-dir in place of --insecure".to_string(),
        );
    }
    match args.checkpoint_every.is_some() {
        true => Err("--secret: snapshots of --checkpoint-every are not encrypted; ftvm checkpoint --encrypt takes one".to_string()),
        false => Ok(()),
    }
}

/// Refuses what cannot fail over.
fn can_be_protected(args: &RunArgs) -> Result<(), String> {
    for v in &args.volumes {
        if !options::volume(v)?.2 {
            let v = v.to_string_lossy();
            return Err(format!(
                "-v {v}: a volume that is written through cannot fail over; add :ro, or run without --protect"
            ));
        }
    }
    if args.rootfs_mode == RootMode::Rw {
        return Err(
            "--rootfs-mode rw: a root that is written through cannot fail over; run without --protect"
                .to_string(),
        );
    }
    if *args.net() == net::Choice::Host {
        return Err(
            "--net host: connections of host sockets die with the host; give the image its own address with --net IF,ip=..."
                .to_string(),
        );
    }
    Ok(())
}

/// The user's environment without what stage 0 added, and what the options say.
fn environment(args: &RunArgs) -> Result<Vec<Vec<u8>>, String> {
    let in_place = stage0::in_place();
    let own: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(k, _)| !k.as_bytes().starts_with(ENV_PREFIX.as_bytes()))
        .filter(|(k, _)| !in_place || (k != "GLIBC_TUNABLES" && k != stage0::INHERITED && k != layer::PLACE))
        .map(|(k, v)| {
            let saved = k == stage0::SAVED_TUNABLES;
            (if saved { "GLIBC_TUNABLES".into() } else { k }, v)
        })
        .collect();
    let env = match args.frozen.as_ref().and_then(|f| f.env.clone()) {
        Some(env) => options::environment_over(env, &own, &args.env_file, &args.env)?,
        None => options::environment(own, &args.env_file, &args.env)?,
    };
    Ok(env
        .into_iter()
        .map(|(k, v)| [k.as_bytes(), b"=", v.as_bytes()].concat())
        .collect())
}

/// Finds a command as a shell does: along the guest's own PATH, below the image's root.
fn find(command: &OsStr, rootfs: &[u8], envp: &[Vec<u8>]) -> Option<Vec<u8>> {
    if command.as_bytes().contains(&b'/') {
        return Some(command.as_bytes().to_vec());
    }
    let path = envp.iter().find_map(|e| e.strip_prefix(b"PATH="));
    let path = path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    // A link may point to what exists only in the image: its name is enough there.
    let there = |p: &Path| match rootfs {
        b"/" => p.is_file(),
        _ => p.symlink_metadata().is_ok_and(|m| !m.is_dir()),
    };
    path.split(|b| *b == b':')
        .map(|dir| {
            let dir = if dir.is_empty() { b"." } else { dir };
            [dir, b"/", command.as_bytes()].concat()
        })
        .find(|p| match rootfs {
            b"/" => there(Path::new(OsStr::from_bytes(p))),
            _ => there(Path::new(OsStr::from_bytes(&[rootfs, p.as_slice()].concat()))),
        })
}

/// Bytes of memory that the host has: what the image may believe to have.
pub fn host_memory() -> u64 {
    // SAFETY: plain queries.
    let (pages, size) = unsafe {
        (
            libc::sysconf(libc::_SC_PHYS_PAGES),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    (pages.max(1) as u64) * (size.max(1) as u64)
}

/// Where the program starts, and the host directories that it may change. `Config::cwd` is what the
/// image enters; the caller's own directory is written through whatever that is.
fn places(args: &RunArgs) -> Result<(Vec<u8>, VolumeConfig), String> {
    let mut volumes = Vec::new();
    for v in &args.volumes {
        volumes.push(options::volume(v)?);
    }
    if let (Some(root), true) = (&args.rootfs, args.rootfs_mode != RootMode::Layer) {
        let root = options::directory(root).map_err(|e| format!("--rootfs {e}"))?;
        volumes.push((root, b"/".to_vec(), args.rootfs_mode == RootMode::Ro));
    }
    let here = std::env::current_dir().map_or(b"/".to_vec(), |d| d.into_os_string().into_vec());
    let own_root = args.rootfs.is_some() || args.frozen.is_some();
    let write_through = !args.no_cwd && !own_root && !args.protect.on();
    let start = match &args.workdir {
        Some(dir) if dir.as_bytes().starts_with(b"/") => options::clean(dir.as_bytes()),
        Some(dir) => options::clean(&[here.as_slice(), b"/", dir.as_bytes()].concat()),
        None if own_root => b"/".to_vec(),
        None => here.clone(),
    };
    if start == here {
        return Ok((
            here,
            VolumeConfig {
                cwd: write_through,
                volumes,
            },
        ));
    }
    if write_through && here.len() > 1 {
        volumes.insert(0, (here.clone(), here, false));
    }
    Ok((start, VolumeConfig { cwd: false, volumes }))
}

fn config(args: &RunArgs) -> Result<Config, String> {
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
    let caller = (uid, gid);
    let (uid, gid, groups) = match args.user {
        Some((u, g)) => (u, g, vec![g]),
        None => (uid, gid, groups),
    };
    let groups = args.groups.clone().unwrap_or(groups);
    for (which, soft, hard) in &args.ulimit {
        rlimits[*which] = (*soft, *hard);
    }
    let (cwd, mounts) = places(args)?;
    let host_name = || std::fs::read("/proc/sys/kernel/hostname").map(|h| h.trim_ascii().to_vec());
    Ok(Config {
        hostname: match &args.hostname {
            Some(h) => h.clone().into_bytes(),
            None => host_name().unwrap_or(b"ftvm".to_vec()),
        },
        kernel_release: "6.12.0-ftvm".to_string(),
        kernel_version: "#1 SMP PREEMPT_DYNAMIC ftvm".to_string(),
        uid,
        gid,
        groups,
        host_ids: if args.user_files { caller } else { (uid, gid) },
        caps: match args.caps {
            Some(options::Capabilities(sets)) => sets,
            None => ftl_abi::task::Creds::new(uid, gid, Vec::new()).caps,
        },
        no_new_privs: args.no_new_privileges,
        xsave_len,
        xcr0,
        cpu: None,
        // The second bit is FSGSBASE; rdrand and the like are the CPU's own until they go through the door.
        hwcap: (hwcap, hwcap2, min_stack),
        strace: Cell::new(args.strace),
        chaos: None,
        max_tasks: args.pids.unwrap_or(PIDS),
        cpus: args.cpus.unwrap_or(0),
        memory: args.memory.unwrap_or_else(host_memory),
        rlimits,
        umask,
        // Outside the image only the options are checked.
        signals: match stage0::in_place() {
            true => crate::control::inherited_signals(),
            false => (0, 0),
        },
        cwd,
        keep_layer: layer::place().is_some(),
        inherited: stage0::inherited(),
        net: None,
        hooks: args.hooks.clone(),
        secret: false,
        secrets: Default::default(),
        vdso: crate::vdso::image(),
        mounts,
    })
}
