//! `run --image`: what an image says becomes options of `run`, where the command line says nothing.

use super::run::RunArgs;
use super::{net, options};
use crate::door::replay::EXIT_INCOMPATIBLE;
use crate::platform::root;
use crate::run::EXIT_FAILED;
use ftl_abi::config::{Hook, Hooks};
use ftl_images::config::{App, Network, NetworkMode, VolumePolicy};
use ftl_images::digest::Digest;
use ftl_images::image::{Compression, Image};
use ftl_images::reference::Reference;
use ftl_images::store::{Blob, Store};
use ftl_images::{build, sign, unpack};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// The manifest that the supervisor has looked up: the guest process takes the same, whatever the name means by then.
pub const ENV_MANIFEST: &str = "FTVM_INTERNAL_MANIFEST";

/// Root and environment of an image.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// Name of the root (`platform::root`).
    pub name: Vec<u8>,
    /// Its directory on this host.
    pub dir: PathBuf,
    /// The image's own variables; none: the caller's.
    pub env: Option<Vec<(OsString, OsString)>>,
}

impl Frozen {
    /// Finds a command along the image's PATH, as its own processes would.
    pub fn find(&self, command: &OsStr, envp: &[Vec<u8>]) -> Option<Vec<u8>> {
        if command.as_bytes().contains(&b'/') {
            return Some(command.as_bytes().to_vec());
        }
        let path = envp.iter().find_map(|e| e.strip_prefix(b"PATH="));
        let path = path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
        path.split(|b| *b == b':')
            .map(|dir| [if dir.is_empty() { b"." } else { dir }, b"/", command.as_bytes()].concat())
            .find(|p| unpack::is_file_in(&self.dir, p))
    }
}

/// Looks the image up and fills the options in; `plain`: for `run` and no other verb. An exit code and a line if that cannot be.
pub fn apply(args: &mut RunArgs, in_place: bool, plain: bool) -> Result<(), (i32, String)> {
    let Some(text) = args.image.clone() else {
        return freeze(args, in_place).map_err(|why| (EXIT_FAILED, why));
    };
    let failed = |why: String| (EXIT_FAILED, format!("--image {text}: {why}"));
    let missing = |why: String| (EXIT_INCOMPATIBLE, format!("--image {text}: {why}"));
    let store = Store::open().map_err(failed)?;
    let pinned = std::env::var(ENV_MANIFEST).ok().filter(|_| in_place);
    let text = pinned.as_deref().unwrap_or(&text);
    let (name, blob) = store.find(text).map_err(missing)?;
    // By a digest it is called as the caller calls it, whatever else has that digest.
    let called = match Reference::parse(text) {
        Ok(r) if r.digest.is_some() => r.name(),
        _ => name.unwrap_or_else(|| text.to_string()),
    };
    // One that came by its digest is called by that; here the digest follows anyway.
    let called = called.split('@').next().unwrap_or_default().to_string();
    if let Some(key) = args.verify_key.as_ref().filter(|_| !in_place) {
        sign::verify(&store, &blob.digest, key).map_err(failed)?;
    }
    let image = Image::open(&store, &blob).map_err(failed)?;
    let frozen = root_of(&store, &image, &blob, &called).map_err(failed)?;
    if !in_place {
        super::warm::choose(args, plain, text, &store, &image).map_err(failed)?;
    }
    fill(args, &image, frozen).map_err(failed)?;
    if !in_place {
        // SAFETY: no other thread.
        unsafe { std::env::set_var(ENV_MANIFEST, pinned_name(&called, &blob)) };
    }
    Ok(())
}

/// A protected image's root is a directory of this host (`--rootfs`): it becomes an image in this host's store, so that it stays as it is now and
/// backups are sent it.
fn freeze(args: &mut RunArgs, in_place: bool) -> Result<(), String> {
    let Some(dir) = args.rootfs.clone().filter(|_| args.protect.on()) else {
        return Ok(());
    };
    let failed = |why: String| format!("--rootfs {}: {why}", dir.display());
    // What is written through is refused, with its own words.
    if args.rootfs_mode != super::run::RootMode::Layer {
        return Ok(());
    }
    let store = Store::open().map_err(failed)?;
    let name = match std::env::var(ENV_MANIFEST).ok().filter(|_| in_place) {
        Some(pinned) => pinned,
        None => {
            options::directory(&dir).map_err(failed)?;
            let name = format!(
                "localhost/rootfs/{}",
                args.name.as_deref().unwrap_or("run").to_lowercase()
            );
            let plan = build::Plan {
                from: &dir,
                app: App {
                    version: 1,
                    command: args
                        .command
                        .iter()
                        .map(|w| w.to_string_lossy().into_owned())
                        .collect(),
                    ..App::default()
                },
                include: &[],
                compression: Compression::None,
            };
            super::say(&format!(
                "--rootfs {} is frozen as the image {name}",
                dir.display()
            ));
            let built =
                build::build(&store, &plan, &Reference::parse(&name).map_err(failed)?).map_err(failed)?;
            let pinned = pinned_name(&name, &built.blob);
            // SAFETY: no other thread.
            unsafe { std::env::set_var(ENV_MANIFEST, &pinned) };
            pinned
        }
    };
    let (_, blob) = store.find(&name).map_err(failed)?;
    let image = Image::open(&store, &blob).map_err(failed)?;
    let called = name.split('@').next().unwrap_or_default();
    // It is still the caller's program, with the caller's environment, that runs in it.
    let frozen = root_of(&store, &image, &blob, called).map_err(failed)?;
    args.rootfs = None;
    args.frozen = Some(frozen);
    Ok(())
}

/// A complete name with the digest; the digest alone if the image has no name.
fn pinned_name(called: &str, blob: &Blob) -> String {
    match called.contains('/') {
        true => format!("{called}@{}", blob.digest),
        false => blob.digest.to_string(),
    }
}

fn root_of(store: &Store, image: &Image, blob: &Blob, called: &str) -> Result<Frozen, String> {
    let (_, lost) = unpack::root(store, image)?;
    if let Some(lost) = lost.filter(|l| l.owners + l.devices + l.attributes > 0) {
        super::say(&format!(
            "{called}: unpacked as a plain user: {} files have another owner in the image, {} devices and {} attributes are not there",
            lost.owners, lost.devices, lost.attributes
        ));
    }
    let name = root::name(called, &blob.digest);
    Ok(Frozen {
        dir: root::on_host(&name)?,
        name,
        env: None,
    })
}

/// The one place where `ftvm.toml` and OCI's configuration meet the options of `run`.
fn fill(args: &mut RunArgs, image: &Image, mut frozen: Frozen) -> Result<(), String> {
    let none = App::default();
    let app = image.app.as_ref().unwrap_or(&none);
    let oci = image.config.config().clone().unwrap_or_default();

    // Program and arguments: OCI's Entrypoint stays, Cmd is what ARGS replace.
    let entry = oci.entrypoint().clone().unwrap_or_default();
    let rest = oci.cmd().clone().unwrap_or_default();
    let mut command: Vec<OsString> = entry.into_iter().map(OsString::from).collect();
    match args.command.is_empty() {
        true => command.extend(rest.into_iter().map(OsString::from)),
        false => command.append(&mut args.command),
    }
    if command.is_empty() {
        return Err("it has no command: name a program behind it".to_string());
    }
    args.command = command;

    let ids = unpack::user_in(&frozen.dir, oci.user().as_deref().unwrap_or_default())?;
    let mut env: Vec<(OsString, OsString)> = Vec::new();
    for entry in oci.env().iter().flatten() {
        if let Some((k, v)) = entry.split_once('=') {
            env.push((k.into(), v.into()));
        }
    }
    if !env.iter().any(|(k, _)| k == "HOME") {
        env.push(("HOME".into(), ids.home.into()));
    }
    frozen.env = Some(env);

    args.user = args.user.or(Some((ids.uid, ids.gid)));
    args.workdir = args.workdir.take().or_else(|| {
        let dir = oci.working_dir().clone().filter(|d| !d.is_empty());
        dir.map(OsString::from)
    });
    if args.hostname.is_none() {
        args.hostname = app.hostname.as_deref().map(options::hostname).transpose()?;
    }
    if args.memory.is_none() {
        let size = |t: &str| options::size(t).map_err(|e| format!("limits.memory: {e}"));
        args.memory = app.limits.memory.as_deref().map(size).transpose()?;
    }
    args.pids = args.pids.or(app.limits.pids.map(|n| n as usize));
    args.cpus = args.cpus.or(app.limits.cpus.map(|c| c.thousandths()));
    args.recordable |= app.recordable;
    if args.net.is_none() {
        args.net = app.network.as_ref().map(network).transpose()?;
    }
    volumes(args, app)?;
    args.protect.fill(&app.protection)?;
    if let Some(h) = &app.health {
        args.health.fill(h)?;
    }
    args.hooks = hooks(&app.hooks)?;
    super::secret::fill(&mut args.secrets, &app.secrets)?;
    args.frozen = Some(frozen);
    Ok(())
}

/// How long a hook may take that says nothing of it.
const HOOK_TIME: Duration = Duration::from_secs(30);

fn hooks(all: &ftl_images::config::Hooks) -> Result<Hooks, String> {
    let one = |name: &str, hook: &Option<ftl_images::config::Hook>| -> Result<Option<Hook>, String> {
        let Some(h) = hook else { return Ok(None) };
        let timeout = h.timeout.as_deref().map(options::interval).transpose();
        let timeout = timeout.map_err(|e| format!("hooks.{name}.timeout: {e}"))?;
        Ok(Some(Hook {
            argv: h.command.iter().map(|w| w.clone().into_bytes()).collect(),
            timeout_ns: timeout.unwrap_or(HOOK_TIME).as_nanos() as u64,
        }))
    };
    Ok(Hooks {
        before_checkpoint: one("before-checkpoint", &all.before_checkpoint)?,
        after_restore: one("after-restore", &all.after_restore)?,
    })
}

fn network(n: &Network) -> Result<net::Choice, String> {
    let text = match n.mode {
        NetworkMode::Host => "host".to_string(),
        NetworkMode::None => "none".to_string(),
        NetworkMode::Own => {
            let interface = n
                .interface
                .as_deref()
                .ok_or("network: no interface is named; give one with --net IF,ip=...")?;
            let ips = n.ip.iter().map(|ip| format!(",ip={ip}"));
            let more = n.gateway.iter().map(|gw| format!(",gw={gw}"));
            let mac = n.mac.iter().map(|mac| format!(",mac={mac}"));
            std::iter::once(interface.to_string())
                .chain(ips)
                .chain(more)
                .chain(mac)
                .collect()
        }
    };
    net::parse(&text).map_err(|e| format!("network: {e}"))
}

/// Volumes of the file that the command line does not place itself.
fn volumes(args: &mut RunArgs, app: &App) -> Result<(), String> {
    let given: Vec<Vec<u8>> = args
        .volumes
        .iter()
        .filter_map(|v| v.as_bytes().split(|b| *b == b':').nth(1).map(options::clean))
        .collect();
    for v in &app.volumes {
        let read_only = match v.policy {
            VolumePolicy::Image => continue,
            VolumePolicy::WriteThrough => false,
            VolumePolicy::ReadOnly => true,
        };
        if given.contains(&options::clean(v.path.as_bytes())) {
            continue;
        }
        let host = v.host.as_ref().ok_or_else(|| {
            let ro = if read_only { ":ro" } else { "" };
            format!(
                "it wants a host directory at {}: give one with -v DIR:{}{ro}",
                v.path, v.path
            )
        })?;
        args.volumes
            .push(format!("{host}:{}:{}", v.path, if read_only { "ro" } else { "rw" }).into());
    }
    Ok(())
}

/// What `ftvm.toml` says must be possible as options, before it is in an image.
pub fn check(app: &App) -> Result<(), String> {
    app.hostname.as_deref().map(options::hostname).transpose()?;
    let size = |t: &str| options::size(t).map_err(|e| format!("limits.memory: {e}"));
    app.limits.memory.as_deref().map(size).transpose()?;
    if let Some(n) = app.network.as_ref() {
        let named = Network {
            interface: n
                .interface
                .clone()
                .or((n.mode == NetworkMode::Own).then(|| "eth0".to_string())),
            ..n.clone()
        };
        network(&named)?;
    }
    hooks(&app.hooks)?;
    super::protect::ProtectArgs::default().fill(&app.protection)
}

/// Where the image's name is among the arguments of a run, and what is before it in that argument.
fn image_at(args: &[OsString]) -> Option<(usize, &'static str)> {
    let own = args.iter().position(|a| a == "--").unwrap_or(args.len());
    match args[..own].iter().position(|a| a == "--image") {
        Some(i) if i + 1 < own => Some((i + 1, "")),
        _ => args[..own]
            .iter()
            .position(|a| a.as_bytes().starts_with(b"--image="))
            .map(|i| (i, "--image=")),
    }
}

/// Arguments of a named run, for `ftvm start`: the image is the one that it was made of, whatever its name means later.
pub fn pin(args: &mut [OsString]) {
    if let Ok(pinned) = std::env::var(ENV_MANIFEST)
        && let Some((at, prefix)) = image_at(args)
    {
        args[at] = format!("{prefix}{pinned}").into();
    }
}

/// Manifests that `ftvm start` would need: those of the runs that are kept.
pub fn of_runs() -> Result<BTreeSet<Digest>, String> {
    let mut out = BTreeSet::new();
    for run in super::state::Run::all()? {
        // A run that is being made, or came from elsewhere, has none yet.
        if !run.kept.join("args").exists() {
            continue;
        }
        let (_, args) = run.args()?;
        let Some((at, prefix)) = image_at(&args) else {
            continue;
        };
        let text = args[at].to_string_lossy();
        let text = text.strip_prefix(prefix).unwrap_or(&text);
        let digest = text.rsplit_once('@').map_or(text, |(_, d)| d);
        out.extend(Digest::parse(digest).ok());
    }
    Ok(out)
}
