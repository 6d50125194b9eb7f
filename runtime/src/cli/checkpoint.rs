//! `ftvm checkpoint` and `ftvm restore`.

use super::{clone, say, state};
use crate::control::{
    self, HOW_CHANGES, HOW_DRY, HOW_GO_ON, HOW_IN_PLACE, HOW_KEEP, HOW_RUNTIME, HOW_SEALED, HOW_SHARE,
    HOW_VOLUMES,
};
use crate::run::EXIT_FAILED;
use crate::snap::carry;
use crate::snap::clone::FromTemplate;
use crate::snap::file::FromFiles;
use crate::snap::lazy::Lazy;
use crate::snap::restore;
use crate::snap::volumes::{self, Rules, give};
use crate::store::crypt;
use crate::store::file::{HostFile, Unpublished};
use crate::store::open::{Opener, passphrase};
use crate::store::write::Fault;
use crate::supervisor;
use ftl_core::snap::{Cipher, Lock, Snapshot, hex};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of `checkpoint`.
#[derive(clap::Args)]
pub struct CheckpointArgs {
    /// The snapshot's file
    #[arg(short, long, value_name = "FILE", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Let the image go on; without it the image ends when its snapshot is written
    #[arg(long)]
    leave_running: bool,
    /// Only what has changed since the last snapshot of this run that was taken so: the first is whole, each other names the one
    /// before it, which a restore needs beside it, in the page store or as --parent. Between them the image's
    /// changes are followed, which costs memory for a copy of its kernel's and shared pages
    #[arg(long, conflicts_with = "dry_run")]
    incremental: bool,
    /// Put this ftvm into the snapshot: any later build restores it by that one
    #[arg(long, conflicts_with = "dry_run")]
    with_runtime: bool,
    /// Write no snapshot: tell what of the image cannot travel, and what a restore will need
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    policy: Policy,
    /// Compress pages, after the image has gone on; a restore then cannot map them
    #[arg(long)]
    compress: bool,
    /// Encrypt with the passphrase in this file
    #[arg(long, value_name = "FILE")]
    encrypt: Option<PathBuf>,
    /// Do not run the image's hook before it; a hook that fails leaves no snapshot
    #[arg(long)]
    no_hooks: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// File for a second snapshot of the same moment, copied in one go while the image stands still
    #[arg(long, hide = true, value_name = "FILE", requires = "leave_running")]
    compare: Option<PathBuf>,
    /// Name of the run
    name: String,
}

/// What becomes of what is not in the image.
#[derive(clap::Args)]
pub struct Policy {
    /// Directories that are written through (-v, the working directory). fail: refuse if a file in them is open for writing; share:
    /// a restore takes them as they are then; snapshot: what is in them becomes part of the snapshot, and each restore and clone
    /// has directories of its own with it. GUEST=... is for the volume at that path of the image, also if it is read-only
    #[arg(long, value_name = "[GUEST=]fail|share|snapshot", default_value = "fail", value_parser = rule)]
    volumes: Vec<String>,
    /// Connections of host sockets: cut them, which both sides see, or refuse if there are any. Connections of
    /// an image with its own address (--net IF,ip=...) are in the snapshot either way
    #[arg(long, value_name = "close|keep", default_value = "close")]
    tcp: Tcp,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Tcp {
    Close,
    Keep,
}

/// Checks a word of `--volumes`.
fn rule(word: &str) -> Result<String, String> {
    Rules::parse(&[word.to_string()]).map(|_| word.to_string())
}

impl Policy {
    /// What becomes of volumes.
    pub fn rules(&self) -> Rules {
        // Each word was checked as an argument.
        Rules::parse(&self.volumes).unwrap_or(Rules::none())
    }

    /// As bits of an order.
    pub fn bits(&self) -> u32 {
        let rules = self.rules();
        let mut how = 0;
        if rules.hold() || !rules.named.is_empty() {
            how |= HOW_VOLUMES;
        } else if rules.default == volumes::Policy::Share {
            how |= HOW_SHARE;
        }
        if self.tcp == Tcp::Keep {
            how |= HOW_KEEP;
        }
        how
    }
}

/// Options of `restore`.
#[derive(clap::Args)]
pub struct RestoreArgs {
    /// Go on in the background; prints the name. Output goes to `ftvm logs NAME`
    #[arg(short, long)]
    detach: bool,
    /// Name of the run
    #[arg(long, value_name = "NAME", value_parser = super::options::run_name)]
    name: Option<String>,
    /// Do not run the image's hook behind it; a hook that fails ends the image
    #[arg(long)]
    no_hooks: bool,
    /// Read and check all of the snapshot first. Otherwise an image with more than 8 MiB of private memory goes on at once, and
    /// its pages are read while it runs: a damaged one ends it when it is met
    #[arg(long)]
    whole: bool,
    /// For tests: private pages are read when they are needed, and not before
    #[arg(long, hide = true, conflicts_with = "whole")]
    by_need: bool,
    /// Put the volumes that the snapshot holds below this directory, by the paths that they had: with / where they were. What
    /// is there must be empty; nothing is overwritten, and ftvm rm leaves them [default: in the run's own state, until ftvm rm]
    #[arg(long, value_name = "DIR", conflicts_with = "template")]
    volumes_to: Option<PathBuf>,
    #[command(flatten)]
    pub(super) logs: super::logs::LineArgs,
    #[command(flatten)]
    tests: crate::snap::Tests,
    /// This is a clone
    #[arg(long, hide = true)]
    as_clone: bool,
    /// Descriptor of a template that it is made from
    #[arg(long, hide = true, value_name = "FD", requires = "as_clone")]
    template: Option<i32>,
    /// Identity of the snapshot that the template is of
    #[arg(long, hide = true, value_name = "ROOT", requires = "template")]
    of: Option<String>,
    /// Ports of the image on the host, for a clone
    #[arg(long, hide = true, value_name = "OLD=NEW", value_delimiter = ',', value_parser = clone::ports, requires = "as_clone")]
    ports: Vec<(u16, u16)>,
    #[command(flatten)]
    source: super::snapshot::Source,
}

/// `checkpoint`. Returns 0, 1, or of a dry run 3 if no snapshot is possible.
pub fn checkpoint(args: &CheckpointArgs) -> i32 {
    let done = match &args.output {
        _ if args.dry_run => dry_run(args),
        Some(output) => write(args, output),
        None => Ok(2),
    };
    done.unwrap_or_else(|why| {
        say(&why);
        1
    })
}

fn write(args: &CheckpointArgs, output: &Path) -> Result<i32, String> {
    let start = std::time::Instant::now();
    let go_on = if args.leave_running { HOW_GO_ON } else { 0 };
    let mut how = go_on | args.policy.bits();
    if args.incremental {
        how |= HOW_CHANGES;
    }
    if args.with_runtime {
        how |= HOW_RUNTIME;
    }
    let path = std::path::absolute(output).map_err(|e| format!("{}: {e}", output.display()))?;
    let ends = match args.leave_running {
        false => Some(state::Run::find(&args.name)?),
        true => None,
    };
    let taken = match args.compress || args.encrypt.is_some() {
        true => packed(
            &args.name,
            &path,
            how,
            args.compress,
            args.encrypt.as_deref(),
            &args.policy.rules(),
            !args.no_hooks,
        )?,
        false => order(
            &args.name,
            &path,
            how,
            (args.compare.as_deref(), None),
            &args.policy.rules(),
            !args.no_hooks,
        )?,
    };
    let ms = start.elapsed().as_millis() as u64;
    // What is done next may be to restore it under the same name.
    if let Some(run) = ends
        && !run.wait_end(ENDS_WITHIN)
    {
        say(&format!(
            "{}: its snapshot was taken; its run has not ended within {} s",
            args.name,
            ENDS_WITHIN.as_secs()
        ));
    }
    let size = std::fs::metadata(output).map_or(0, |m| m.len());
    if args.json {
        let mut told = json!({"version": state::SCHEMA, "file": output, "bytes": size, "ms": ms});
        for key in ["rounds", "pause_us", "longest_look_us", "root", "parent"] {
            told[key] = taken[key].clone();
        }
        println!("{told}");
        return Ok(0);
    }
    let stood = taken["pause_us"]
        .as_u64()
        .map_or(String::new(), |us| format!("; the image stood still for {us} us"));
    let of = match taken["parent"].as_str() {
        Some(parent) => format!("; a change of {}", &parent[..16.min(parent.len())]),
        None if args.incremental => "; whole: the first".to_string(),
        None => String::new(),
    };
    say(&format!(
        "{}: {size} bytes in {ms} ms{stood}{of}",
        output.display()
    ));
    Ok(0)
}

/// Writes a snapshot of a run that is compressed or encrypted; `how` as in an order. Returns what the image told.
pub fn packed(
    name: &str,
    path: &Path,
    how: u32,
    compress: bool,
    encrypt: Option<&Path>,
    rules: &Rules,
    hooks: bool,
) -> Result<Value, String> {
    let sealed = encrypt.map_or(0, |_| HOW_SEALED);
    let lock = match encrypt {
        Some(file) => {
            let lock = crypt::new_lock()?;
            Some((lock, crypt::cipher(&lock, &passphrase(file)?)?))
        }
        None => None,
    };
    // Plain pages never reach the disk, and the image waits for memory only.
    if how & HOW_CHANGES != 0 && path.exists() {
        return Err(format!(
            "snapshot {}: there is one, which this one may be a change of; name a new file",
            path.display()
        ));
    }
    let plain = memory_file()?;
    let taken = order(
        name,
        &fd_path(&plain),
        how | HOW_IN_PLACE | sealed,
        (None, Some(path)),
        rules,
        hooks,
    )?;
    pack(&fd_path(&plain), path, compress, lock).map_err(|why| {
        let goes_on = how & HOW_GO_ON != 0;
        format!(
            "{why}; the image {}",
            if goes_on { "goes on" } else { "has ended" }
        )
    })?;
    Ok(taken)
}

fn memory_file() -> Result<OwnedFd, String> {
    let fd = crate::sys::memfd(c"ftvm-snapshot", 0).map_err(|e| format!("memory for the snapshot: {e}"))?;
    // SAFETY: a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The name of one of our descriptors for the image's processes. They reach those of a process that has no more
/// capabilities than they have.
fn fd_path(fd: &OwnedFd) -> PathBuf {
    let _ = crate::confine::drop_capabilities();
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()))
}

fn pack(from: &Path, to: &Path, compress: bool, key: Option<(Lock, Box<dyn Cipher>)>) -> Result<(), String> {
    // Not its parents: what it says stays the same.
    let plain = Opener::new(None).one(from)?;
    let mut file = Unpublished::create(to)?;
    let root = plain.repack(compress, key, &mut |b| file.write(b).map_err(Fault::Store));
    root.map_err(Fault::text)?;
    file.publish()
}

fn dry_run(args: &CheckpointArgs) -> Result<i32, String> {
    let report = memory_file()?;
    order(
        &args.name,
        &fd_path(&report),
        HOW_DRY | HOW_VOLUMES | args.policy.bits(),
        (None, None),
        &args.policy.rules(),
        false,
    )?;
    let path = fd_path(&report);
    let text = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut report: Value = serde_json::from_slice(&text).map_err(|e| format!("the image's report: {e}"))?;
    let possible = report["possible"] == true;
    if args.json {
        report["version"] = state::SCHEMA.into();
        println!("{report}");
    } else {
        for note in report["notes"].as_array().into_iter().flatten() {
            let word = |key: &str| note[key].as_str().unwrap_or_default().to_string();
            println!(
                "{:<9} {} {}: {}",
                word("fate"),
                word("kind"),
                word("name"),
                word("why")
            );
        }
        println!("a snapshot is {}", if possible { "possible" } else { "refused" });
    }
    Ok(if possible { 0 } else { restore::EXIT_MISSING })
}

fn order(
    name: &str,
    path: &Path,
    how: u32,
    (compare, packed_to): (Option<&Path>, Option<&Path>),
    rules: &Rules,
    hooks: bool,
) -> Result<Value, String> {
    let run = state::Run::find(name)?;
    if run.pid().is_none() {
        return Err(format!("{name}: is not running"));
    }
    let mut order = json!({
        "verb": "checkpoint", "path": path, "how": how, "hooks": hooks, "volumes": rules.json(),
    });
    if let Some(file) = compare {
        order["compare"] = json!(std::path::absolute(file).map_err(|e| format!("{}: {e}", file.display()))?);
    }
    if let Some(file) = packed_to {
        order["packed_to"] = json!(file);
    }
    let answer = crate::orders::send(&run.dir, &order).map_err(|e| format!("{name}: its supervisor: {e}"))?;
    if answer["ok"] != true {
        return Err(answer["why"].as_str().unwrap_or("the image ended").to_string());
    }
    Ok(answer)
}

/// How long the host may take to tear down an image that was told to end.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// `restore` in the user's process.
pub fn restore_outside(args: &RestoreArgs) -> i32 {
    if args.template.is_none()
        && let Err((code, why)) = args
            .source
            .opener()
            .and_then(|mut o| {
                let path = o.resolve(&args.source.snapshot)?;
                let open = std::fs::File::open(&path);
                open.map(|_| o)
                    .map_err(|e| format!("snapshot {}: {e}", path.display()))
            })
            .map_err(|why| (EXIT_FAILED, why))
            .and_then(|mut o| carry::hand_over(&mut o, &args.source.snapshot))
    {
        say(&why);
        return code;
    }
    // Both would write to the one order that there is.
    if !args.no_hooks && !args.tests.wanted() {
        crate::hooks::set_restored();
    }
    // Whoever reads all of it says what is wrong with it.
    let held = holds(&args.source).unwrap_or_default();
    if args.volumes_to.is_some() && !held {
        say(&format!(
            "snapshot {}: it holds no volumes for --volumes-to: ftvm checkpoint --volumes snapshot",
            args.source.snapshot.display()
        ));
        return restore::EXIT_MISSING;
    }
    // Volumes are kept under a name.
    if args.detach || args.name.is_some() || held {
        let command = [OsString::from("restore"), args.source.snapshot.clone().into()];
        let manner = state::Manner {
            detach: args.detach,
            wait: true,
            ..state::Manner::default()
        };
        let mut given = false;
        let code = state::run(args.name.as_deref(), &command, manner, || {
            let volumes = match held.then(|| unpack(args)).transpose() {
                Ok(volumes) => volumes,
                Err(why) => {
                    let name = args.source.snapshot.display();
                    crate::talk::error(
                        "missing",
                        restore::EXIT_MISSING,
                        &format!("snapshot {name}: {why}"),
                    );
                    return restore::EXIT_MISSING;
                }
            };
            let code = supervisor::run(supervisor::Image::Run);
            if !control::lived() {
                // Nobody has written to them, and the run may be tried again.
                if let Some(volumes) = volumes {
                    volumes.undo();
                }
            } else {
                given = held;
            }
            code
        });
        // The user did not ask for a name, and there is nothing that is kept under it.
        if args.name.is_none()
            && !args.detach
            && !given
            && let Some(run) = state::kept_here().and_then(Path::file_name)
        {
            let run = run.to_string_lossy();
            let removed = state::Run::find(&run).and_then(|run| run.remove());
            say(&removed.map_or_else(
                |why| why,
                |()| format!("the run {run} has not begun, and is removed"),
            ));
        }
        return code;
    }
    supervisor::run(supervisor::Image::Run)
}

/// Whether a snapshot holds volumes.
fn holds(source: &super::snapshot::Source) -> Result<bool, String> {
    let path = source.opener()?.resolve(&source.snapshot)?;
    let head = Snapshot::header_of(&HostFile::open(&path)?).map_err(|e| e.to_string())?;
    Ok(head.with_volumes)
}

/// Makes directories of the run's own from a snapshot's volumes.
fn unpack(args: &RestoreArgs) -> Result<give::Given, String> {
    let chain = args.source.opener()?.chain(&args.source.snapshot)?.chain;
    let root = hex(chain.last().root());
    if args.of.as_ref().is_some_and(|of| *of != root) {
        return Err("it was replaced meanwhile".to_string());
    }
    let kept = state::kept_here().ok_or("the run has no directory")?;
    let place = give::Place {
        run: kept.join("volumes"),
        to: match &args.volumes_to {
            Some(dir) => Some(std::path::absolute(dir).map_err(|e| format!("{}: {e}", dir.display()))?),
            None => None,
        },
    };
    let given = give::unpack(&chain, &place)?;
    if let Some(line) = &given.said {
        say(line);
    }
    if args.name.is_none() && !args.detach {
        let name = kept
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        say(&format!(
            "the run is named {name}: its volumes are kept until ftvm rm {name}"
        ));
    }
    // SAFETY: nobody else looks at the environment yet.
    unsafe {
        std::env::set_var(volumes::PLACE, &given.map);
        std::env::set_var(volumes::OF, root);
    }
    Ok(given)
}

/// `restore` in the guest process.
pub fn restore_inside(args: &RestoreArgs) -> i32 {
    args.tests.arm();
    let then = match args.as_clone {
        true => restore::Then::Clone(restore::Own {
            ports: args.ports.clone(),
            of: None,
        }),
        false => restore::Then::Live,
    };
    if let Some(fd) = args.template {
        super::run::gave_up(restore::boot(|| Box::new(FromTemplate(fd)), then));
    }
    let opener = match args.source.opener() {
        Ok(o) => o,
        Err(why) => super::run::gave_up((restore::EXIT_MISSING, why)),
    };
    let name = args.source.snapshot.clone();
    let lazy = match (args.whole, args.by_need) {
        (true, _) => None,
        (_, true) => Some(Lazy {
            from: 0,
            by_need: true,
        }),
        _ => Some(Lazy::default()),
    };
    super::run::gave_up(restore::boot(|| Box::new(FromFiles { opener, name, lazy }), then))
}
