//! Warm images: a snapshot of the started application, kept with its image (`image build --warm-until`, `image warm`), and the
//! choice of `run --image` between it and a cold start.
//!
//! Such a snapshot is an artifact (`ftl_images::artifact`) of the image. It holds the application as it was started with the
//! image's own settings; so it is used only where nothing else is asked for, by the build of ftvm that took it, on a CPU with the
//! features that the program may have chosen by. Where it is there and not used, one line says why.

use super::{checkpoint, clone, run, say, state};
use crate::probe;
use crate::snap::clone::bound;
use crate::snap::file::{FromFiles, STATE};
use crate::snap::prepared::{self, FromReady, Ready};
use crate::snap::restore;
use crate::snap::state::HostState;
use crate::snap::volumes::Rules;
use crate::store::open::{Opener, digits, passphrase};
use ftl_images::artifact::{self, Artifact};
use ftl_images::config::{NetworkMode, Until, VolumePolicy};
use ftl_images::image::Image;
use ftl_images::reference::Reference;
use ftl_images::sign;
use ftl_images::store::{Blob, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the supervisor has chosen, for the guest process: file of the snapshot, ports, and digest of the image.
pub const ENV_WARM: &str = "FTVM_INTERNAL_WARM";

/// Between two looks whether the application is warm.
const LOOK: Duration = Duration::from_millis(20);
/// Where it is asked.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Build of this ftvm, as artifacts name it.
pub fn build() -> String {
    digits(&crate::door::record::build_id())
}

/// How a warm snapshot is taken.
pub struct How<'a> {
    /// What is waited for.
    pub until: &'a Until,
    /// For so long.
    pub limit: Duration,
    /// File with the passphrase to encrypt with.
    pub encrypt: Option<&'a Path>,
}

/// A run that goes when this value does.
struct Guard(state::Run);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.signal(libc::SIGKILL);
        self.0.wait_end(Duration::from_secs(60));
        let _ = self.0.remove();
    }
}

/// Starts the image's program, waits until it is warm, and keeps a snapshot of it with the image.
pub fn take(store: &Store, image: &Image, how: &How<'_>) -> Result<Artifact, String> {
    can_be_warm(image)?;
    if let Until::Http(port, _) | Until::Tcp(port) = how.until
        && probe::connect((HERE, *port).into()).is_some()
    {
        return Err(format!(
            "{}: somebody listens on port {port} of this host already; end that first",
            how.until
        ));
    }
    let digest = image.manifest_blob.digest;
    let name = format!("warm-{}", std::process::id());
    let started = Command::new("/proc/self/exe")
        .args([
            "run",
            "-d",
            "--cold",
            "--name",
            &name,
            "--image",
            &digest.to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let started = started.map_err(|e| format!("starting the program: {}", super::reason(&e)))?;
    let run = Guard(state::Run::find(&name)?);
    if !started.success() {
        return Err("the program could not be started".to_string());
    }
    wait(&run.0, how)?;
    let file = store.ingest()?;
    let taken = checkpoint::packed(&name, &file, 0, true, how.encrypt, &Rules::none(), true)
        .and_then(|_| keep(store, image, &file, how));
    let _ = std::fs::remove_file(&file);
    taken
}

/// What stands against a snapshot that any host can start from.
fn can_be_warm(image: &Image) -> Result<(), String> {
    let Some(app) = &image.app else {
        return Ok(());
    };
    if app.network.as_ref().is_some_and(|n| n.mode == NetworkMode::Own) {
        return Err(
            "network: mode own: the address would be in the snapshot, and every run would have it"
                .to_string(),
        );
    }
    if let Some(s) = app.secrets.first() {
        return Err(format!(
            "secrets: {}: it would be in the snapshot, and every run would have it",
            s.name
        ));
    }
    match app.volumes.iter().find(|v| v.policy != VolumePolicy::Image) {
        Some(v) => Err(format!(
            "volumes: {}: what host directories hold is not in a snapshot; a started program has read it already",
            v.path
        )),
        None => Ok(()),
    }
}

fn wait(run: &state::Run, how: &How<'_>) -> Result<(), String> {
    let end = Instant::now() + how.limit;
    loop {
        // Asked first: what was printed before the end still counts.
        let over = run.pid().is_none();
        if is_warm(run, how.until, end) {
            return Ok(());
        }
        let why = match over {
            true => format!("the program ended before it was warm ({})", how.until),
            false if Instant::now() >= end => format!(
                "the program was not warm within {} s ({}); --warm-timeout gives it longer",
                how.limit.as_secs(),
                how.until
            ),
            false => {
                std::thread::sleep(LOOK);
                continue;
            }
        };
        let printed = std::fs::read(run.log()).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let last: Vec<&str> = printed.lines().rev().take(10).collect();
        let last: String = last.iter().rev().map(|l| format!("\n  {l}")).collect();
        return Err(format!("{why}{last}"));
    }
}

fn is_warm(run: &state::Run, until: &Until, end: Instant) -> bool {
    match until {
        Until::Log(text) => {
            let printed = std::fs::read(run.log()).unwrap_or_default();
            let text = text.as_bytes();
            printed.windows(text.len()).any(|w| w == text)
        }
        _ => probe::ask(HERE, until, end),
    }
}

/// The snapshot becomes an artifact of the image, in place of an older one of the same build and CPU.
fn keep(store: &Store, image: &Image, file: &Path, how: &How<'_>) -> Result<Artifact, String> {
    let at = |e: std::io::Error| format!("{}: {}", file.display(), super::reason(&e));
    let mut blob = store.writer()?;
    std::io::copy(&mut std::fs::File::open(file).map_err(at)?, &mut blob).map_err(at)?;
    let layer = store.finish(blob, artifact::SNAPSHOT)?;
    let mut notes = vec![
        (artifact::BUILD, build()),
        (artifact::CPU, crate::cpu::features()),
        (artifact::TITLE, "warm.ftsnap".to_string()),
        (artifact::UNTIL, how.until.to_string()),
        (artifact::USE, artifact::USE_WARM.to_string()),
        (artifact::VERSION, env!("CARGO_PKG_VERSION").to_string()),
    ];
    if how.encrypt.is_some() {
        notes.push((artifact::ENCRYPTED, "true".to_string()));
    }
    let made = artifact::attach(store, &image.manifest_blob, artifact::SNAPSHOT, &layer, &notes)?;
    ready(store, &made)?;
    for old in artifact::of(store, &image.manifest_blob.digest)? {
        let same = |key| old.note(key) == made.note(key);
        if old.is_warm() && old.blob != made.blob && same(artifact::BUILD) && same(artifact::CPU) {
            store.detach(&old.blob.digest)?;
        }
    }
    Ok(made)
}

/// Chooses between a warm snapshot of the image and a cold start, and leaves the choice to the guest process. `args` are those
/// of the command line, without what the image says. `plain`: nothing else is wanted of the run, such as a log.
pub fn choose(
    args: &run::RunArgs,
    plain: bool,
    text: &str,
    store: &Store,
    image: &Image,
) -> Result<(), String> {
    // SAFETY: no other thread. What the caller's environment has under this name is not ours.
    unsafe { std::env::remove_var(ENV_WARM) };
    if args.cold {
        return Ok(());
    }
    let mut all = artifact::of(store, &image.manifest_blob.digest)?;
    all.retain(Artifact::is_warm);
    // One that fits the build says more than one that does not.
    all.sort_by_key(|a| a.note(artifact::BUILD) != Some(&build()));
    let mut why = None;
    for one in &all {
        match usable(args, plain, text, store, image, one) {
            Ok(choice) => {
                // SAFETY: no other thread.
                unsafe { std::env::set_var(ENV_WARM, choice.to_string()) };
                crate::hooks::set_restored();
                return Ok(());
            }
            Err(reason) => {
                why.get_or_insert(reason);
            }
        }
    }
    if let Some(why) = why {
        say(&format!(
            "{text}: a cold start, not from its warm snapshot: {why}"
        ));
    }
    Ok(())
}

fn usable(
    args: &run::RunArgs,
    plain: bool,
    text: &str,
    store: &Store,
    image: &Image,
    one: &Artifact,
) -> Result<Value, String> {
    if !plain {
        return Err("a log begins with the program's start".to_string());
    }
    if std::env::var_os(state::AGAIN).is_some() {
        return Err("the run has files of its own from before".to_string());
    }
    if let Some(option) = run::changes_start(args, image) {
        return Err(format!("{option} would have to be known at its start"));
    }
    if one.note(artifact::BUILD) != Some(&build()) {
        let version = one.note(artifact::VERSION).unwrap_or("?");
        return Err(format!(
            "another build of ftvm ({version}) took it; ftvm image warm {text} takes one with this build"
        ));
    }
    if let Some(why) = one
        .note(artifact::CPU)
        .map_or_else(|| crate::cpu::unfit(""), crate::cpu::unfit)
    {
        return Err(why);
    }
    if let Some(key) = &args.verify_key {
        sign::verify(store, &one.blob.digest, key)
            .map_err(|why| format!("{why} (ftvm image sign signs both)"))?;
    } else if names_content(text) {
        return Err(
            "the digest does not cover it; name the image by its tag, or give --verify-key".to_string(),
        );
    }
    if !store.has(&one.layer) {
        return Err(format!(
            "its file {} is not in the store; pull the image again",
            one.layer.digest
        ));
    }
    let damaged = || format!("{}: damaged; pull the image again", one.layer.digest);
    let ready = ready(store, one)?;
    let (file, state) = match &ready {
        Some(ready) => (ready_path(store, one), ready.state()),
        None if args.passphrase_file.is_none() => {
            return Err("it is encrypted; --passphrase-file FILE opens it".to_string());
        }
        None => {
            let file = store.blob_path(&one.layer.digest);
            let opened = opener(args)?.one(&file)?;
            let state = opened.manifest().extra(STATE).and_then(HostState::decode);
            (file, state)
        }
    };
    let ports = ports(&state.ok_or_else(damaged)?)?;
    Ok(json!({
        "file": file,
        "ready": ready.is_some(),
        "of": image.manifest_blob.digest.to_string(),
        "ports": ports,
    }))
}

/// The user has named contents, not a name that may mean others tomorrow.
fn names_content(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    hex.len() >= 12 && hex.bytes().all(|b| b.is_ascii_hexdigit())
        || Reference::parse(text).is_ok_and(|r| r.digest.is_some())
}

fn opener(args: &run::RunArgs) -> Result<Opener, String> {
    let words = args.passphrase_file.as_deref().map(passphrase).transpose()?;
    Ok(Opener::new(words))
}

/// Where a snapshot that is made ready lies: in the store, under its own digest.
fn ready_path(store: &Store, one: &Artifact) -> PathBuf {
    store.dir().join("warm").join(one.layer.digest.hex())
}

/// Makes a snapshot ready for starts, if that was not done. An encrypted one stays as it is.
pub fn ready(store: &Store, one: &Artifact) -> Result<Option<Ready>, String> {
    if one.note(artifact::ENCRYPTED) == Some("true") {
        return Ok(None);
    }
    let path = ready_path(store, one);
    if let Ok(ready) = Ready::open(&path) {
        return Ok(Some(ready));
    }
    prepared::prepare(&mut FromFiles::plain(store.blob_path(&one.layer.digest)), &path)?;
    Ready::open(&path).map(Some)
}

/// The image's ports on this host: its own where they are free. Others are told.
fn ports(state: &HostState) -> Result<Vec<(u16, u16)>, String> {
    let wanted: BTreeMap<u16, String> = bound(state);
    let map = clone::choose(&wanted, &[], 0, &Default::default())?;
    for (old, new) in map.iter().filter(|(old, new)| old != new) {
        let addr = wanted.get(old).map_or("", String::as_str);
        say(&format!("{addr} is in use: it is port {new} of the host"));
    }
    Ok(map)
}

/// In the guest process: goes on from the snapshot that was chosen, if one was.
pub fn inside(args: &run::RunArgs) {
    let Ok(text) = std::env::var(ENV_WARM) else {
        return;
    };
    if args.image.is_none() {
        return;
    }
    let choice: Value = serde_json::from_str(&text).unwrap_or_default();
    let own = restore::Own {
        ports: serde_json::from_value(choice["ports"].clone()).unwrap_or_default(),
        of: choice["of"].as_str().map(str::to_string),
    };
    let name = PathBuf::from(choice["file"].as_str().unwrap_or_default());
    let (code, why) = match choice["ready"] == true {
        true => restore::boot(|| Box::new(FromReady(name)), restore::Then::Clone(own)),
        false => match opener(args) {
            Ok(opener) => restore::boot(
                || {
                    Box::new(FromFiles {
                        opener,
                        name,
                        lazy: None,
                    })
                },
                restore::Then::Clone(own),
            ),
            Err(why) => (restore::EXIT_MISSING, why),
        },
    };
    run::gave_up((code, format!("{why}; --cold starts without the snapshot")))
}

/// A warm snapshot is worth fetching.
pub fn is_for_us(one: &Artifact) -> bool {
    one.is_warm() && one.note(artifact::BUILD) == Some(&build())
}

/// Signs what of an image its own signature does not cover.
pub fn each_warm(
    store: &Store,
    image: &Image,
    mut f: impl FnMut(&Blob) -> Result<(), String>,
) -> Result<(), String> {
    let all = artifact::of(store, &image.manifest_blob.digest)?;
    all.iter().filter(|a| a.is_warm()).try_for_each(|a| f(&a.blob))
}
