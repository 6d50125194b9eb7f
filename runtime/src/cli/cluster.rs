//! `ftvm node`, `up`, `down`, `drain` and `ps --cluster`.

use super::image::Way;
use super::{options, say, state};
use crate::cluster::appfile;
use crate::cluster::node::{self, Config};
use crate::cluster::note::NodeNote;
use crate::cluster::schedule::Fact;
use crate::cluster::spec::{App, Ways, absolute};
use crate::cluster::store::{Keys, Op, Store};
use crate::cluster::unix_time;
use crate::cluster::view::{self, Known, View};
use crate::probe;
use crate::protect::etcd;
use crate::protect::standby::random;
use crate::protect::status;
use crate::talk;
use ftl_images::config::Until;
use ftl_images::reference::Reference;
use ftl_images::registry;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Not known in time.
const EXIT_LATE: i32 = 6;
/// Between two looks at the cluster.
const POLL: Duration = Duration::from_millis(300);
/// How long an app may take to answer that it is ready.
const ASKED: Duration = Duration::from_secs(1);
/// An app that waits for so long is told about.
const WAITS: Duration = Duration::from_secs(2);
/// A drain in which nothing happens for so long is told about.
const STUCK: Duration = Duration::from_secs(15);
/// Time of a node's lease if none is given, seconds.
pub const TTL: u64 = 5;
/// Shortest lease that etcd gives with its default election timeout, seconds.
const MIN_TTL: u64 = 2;

/// Where the cluster is.
#[derive(clap::Args)]
pub struct Where {
    /// The cluster's etcd, etcd://HOST:PORT,HOST:PORT,..., with /PREFIX for keys of its own [default: $FTVM_ARBITER, else that of this host's node]
    #[arg(long, value_name = "URL")]
    arbiter: Option<String>,
    /// Directory with etcd-ca.pem and, where etcd wants them, etcd-cert.pem, etcd-key.pem and etcd-user (a line NAME:PASSWORD), for
    /// etcds:// [default: $FTVM_ARBITER_KEYS, else that of this host's node]
    #[arg(long, value_name = "DIR")]
    arbiter_keys: Option<PathBuf>,
}

/// `node`
#[derive(clap::Subcommand)]
pub enum NodeVerb {
    /// Run apps of a cluster on this host, and keep backups of others; stays in the foreground
    Join(Box<JoinArgs>),
    /// Let a node that was drained take apps again
    Uncordon(UncordonArgs),
    /// Print the build of this ftvm: an image and its backup need the same
    Build,
}

/// Options of `node join`.
#[derive(clap::Args)]
pub struct JoinArgs {
    /// The cluster's etcd, which also decides who is primary: etcd://HOST:PORT,HOST:PORT,..., with /PREFIX for keys of
    /// its own; etcds:// for TLS, with etcd-ca.pem, etcd-cert.pem, etcd-key.pem and etcd-user in $FTVM_ARBITER_KEYS, else in --tls-dir
    #[arg(long, value_name = "URL")]
    arbiter: String,
    /// Address of this node for the others' images: it listens there for their backups
    #[arg(long, value_name = "ADDR:PORT")]
    listen: std::net::SocketAddr,
    /// Host interface on which apps have their addresses
    #[arg(long, value_name = "IF")]
    net: String,
    /// Name of the node [default: the host's]
    #[arg(long, value_name = "NAME", value_parser = options::run_name)]
    name: Option<String>,
    /// What fails together with this node, as a rack: backups are kept elsewhere if they can [default: the node alone]
    #[arg(long, value_name = "NAME", value_parser = options::run_name)]
    domain: Option<String>,
    /// Memory for apps and backups, as in 8g [default: the host's]
    #[arg(long, value_name = "SIZE", value_parser = options::size)]
    memory: Option<u64>,
    /// Keys of this node (`ftvm keygen`)
    #[arg(long, value_name = "DIR", required_unless_present = "insecure")]
    tls_dir: Option<PathBuf>,
    /// Talk to other nodes without encryption: for tests on one machine only
    #[arg(long, conflicts_with = "tls_dir")]
    insecure: bool,
    /// Seconds after which a node that is not heard counts as gone: new backups are then made elsewhere. Takeovers do not
    /// wait for it
    #[arg(long, value_name = "SECONDS", default_value_t = TTL, value_parser = clap::value_parser!(u64).range(MIN_TTL..=600))]
    ttl: u64,
    /// Serve figures for Prometheus at http://ADDR:PORT/metrics
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<String>,
    /// Join although etcd holds another cluster than the one that this node was in, an older state, or nothing. What runs here and is
    /// not in it runs on, and is nobody's: end it with ftvm stop
    #[arg(long)]
    new_cluster: bool,
    /// An ftvm of another build, which keeps backups of images that run on it: so apps stay protected while nodes are upgraded, until they
    /// are started anew. It listens on the port behind that of --listen; the next one on the one behind that
    #[arg(long, value_name = "FILE")]
    older_ftvm: Vec<PathBuf>,
    /// Run no image without a signature by this key (minisign's public key)
    #[arg(long, value_name = "FILE")]
    verify_key: Option<PathBuf>,
    #[command(flatten)]
    way: Way,
    #[command(flatten)]
    pub(super) logs: super::logs::LineArgs,
}

/// Options of `node uncordon`.
#[derive(clap::Args)]
pub struct UncordonArgs {
    #[command(flatten)]
    at: Where,
    /// Name of the node
    node: String,
}

/// Options of `up`.
#[derive(clap::Args)]
pub struct UpArgs {
    #[command(flatten)]
    at: Where,
    /// Wait until it is protected, at most so many seconds; 0: do not wait
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    wait: u64,
    /// Start it afresh although nobody knows whether the last one still runs on a node that is not heard
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    way: Way,
    /// The app's file
    #[arg(value_name = "app.toml")]
    file: PathBuf,
}

/// Options of `down`.
#[derive(clap::Args)]
pub struct DownArgs {
    #[command(flatten)]
    at: Where,
    /// Wait until nothing of it is left, at most so many seconds; 0: do not wait
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    wait: u64,
    /// Also of apps that are LOST: a node that is not heard may still run them, and answer at their addresses until it is heard again
    #[arg(long)]
    force: bool,
    /// Names of the apps; that of replicas means all of them
    #[arg(required = true)]
    apps: Vec<String>,
}

/// Options of `drain`.
#[derive(clap::Args)]
pub struct DrainArgs {
    #[command(flatten)]
    at: Where,
    /// Wait until nothing is left on it, at most so many seconds; 0: do not wait
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    wait: u64,
    /// Let it take apps again, as `ftvm node uncordon` does
    #[arg(long)]
    undo: bool,
    /// Name of the node
    node: String,
}

/// A line and exit code 1, or the code.
fn done(result: Result<i32, String>) -> i32 {
    result.unwrap_or_else(|why| {
        talk::error(talk::code_of(1), 1, &why);
        1
    })
}

/// `node`
pub fn node_verb(verb: &NodeVerb) -> i32 {
    match verb {
        NodeVerb::Build => {
            println!("{}", status::build());
            0
        }
        NodeVerb::Join(args) => done(join(args).map(|()| 0)),
        NodeVerb::Uncordon(args) => done(
            open(&args.at)
                .and_then(|mut s| uncordon(&mut s, &args.node))
                .map(|()| 0),
        ),
    }
}

fn join(args: &JoinArgs) -> Result<(), String> {
    let ip = args.listen.ip();
    if ip.is_unspecified() || args.listen.port() == 0 {
        return Err(format!(
            "--listen {}: other nodes connect to it: give an address and a port of this host",
            args.listen
        ));
    }
    let tls_dir = args.tls_dir.as_deref().map(absolute).transpose()?;
    crate::link::Security::from_options(tls_dir.as_deref().map(std::path::Path::new), args.insecure)?;
    let verify_key = args.verify_key.as_deref().map(absolute).transpose()?;
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = match &args.name {
        Some(n) => n.clone(),
        None => options::run_name(host().trim()).map_err(|e| format!("the host's name: {e}; give --name"))?,
    };
    let keys = etcd::keys_dir(tls_dir.as_deref().map(std::path::Path::new));
    let cfg = Config {
        keys,
        domain: args.domain.clone().unwrap_or_else(|| name.clone()),
        name,
        listen: args.listen.to_string(),
        memory: args.memory.unwrap_or_else(super::run::host_memory),
        ways: Ways {
            interface: args.net.clone(),
            arbiter: args.arbiter.clone(),
            tls_dir,
            verify_key,
        },
        registries: args.way.options(),
        ttl: args.ttl,
        metrics: args.metrics.clone(),
        older: args
            .older_ftvm
            .iter()
            .map(|p| absolute(p).map(PathBuf::from))
            .collect::<Result<_, _>>()?,
        new_cluster: args.new_cluster,
    };
    node::join(cfg)
}

pub fn open(at: &Where) -> Result<Store, String> {
    let env = || std::env::var("FTVM_ARBITER").ok().filter(|v| !v.is_empty());
    let note = node::joined().ok().and_then(|path| NodeNote::read(&path));
    let own = || note.as_ref().map(|n| n.arbiter.clone());
    let url = at.arbiter.clone().or_else(env).or_else(own);
    let keys = at.arbiter_keys.clone().or_else(|| etcd::keys_dir(None));
    let keys = keys.or_else(|| note.as_ref().and_then(|n| n.keys.clone()));
    Store::open(
        &url.ok_or("which cluster? give --arbiter etcd://..., or set FTVM_ARBITER")?,
        keys.as_deref(),
    )
}

fn look(store: &mut Store) -> Result<View, String> {
    look_at(store).map(|(_, view)| view)
}

/// All keys, and what they say.
pub fn look_at(store: &mut Store) -> Result<(Keys, View), String> {
    let mut read = || {
        let keys = store.read()?;
        let registers = store.registers(&view::images(&keys))?;
        let view = View::new(&keys, &registers);
        Some((keys, view))
    };
    // A member may have died just now.
    for _ in 0..10 {
        match read() {
            Some((keys, v)) if v.id.is_some() => return Ok((keys, v)),
            Some(_) => return Err("there is no cluster in this etcd: ftvm node join makes one".to_string()),
            None => std::thread::sleep(POLL),
        }
    }
    Err(store.silence())
}

/// Looks until `over` has a result, at most so long.
fn wait(
    store: &mut Store,
    seconds: u64,
    mut over: impl FnMut(&View) -> Option<Result<(), String>>,
) -> Result<bool, String> {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        if let Some(result) = over(&look(store)?) {
            return result.map(|()| true);
        }
        std::thread::sleep(POLL);
    }
    Ok(false)
}

fn write(store: &mut Store, ops: &[Op]) -> Result<(), String> {
    for _ in 0..10 {
        if store.write(ops).is_some() {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    Err(store.silence())
}

/// `up`: 0 when it is protected.
pub fn up(args: &UpArgs) -> i32 {
    done(try_up(args))
}

/// The image of an app is from now on the one that its name means now.
fn pinned(file: &mut appfile::File, way: &Way) -> Result<(), String> {
    let Some(r) = file.image.clone() else {
        return Ok(());
    };
    let (digest, own) = match (registry::resolve(&r, &way.options(), say), r.digest) {
        (Ok(found), _) => found,
        // Nodes may have it although its registry is not there.
        (Err(why), Some(digest)) => {
            say(&format!("{why}; its digest is in the file, and is believed"));
            (digest, None)
        }
        (Err(why), None) => return Err(why),
    };
    let pinned = Reference {
        tag: None,
        digest: Some(digest),
        ..r
    };
    file.pin(&pinned.to_string(), own.as_ref())
}

/// An error if the app has secrets, and none of the nodes keeps any: where it would start is told now, not there.
fn can_be_secret(view: &View, app: &App) -> Result<(), String> {
    let clear = view.nodes.iter().filter(|(_, n)| n.insecure);
    let names: Vec<&str> = clear.map(|(name, _)| name.as_str()).collect();
    if app.secrets().is_empty() || names.is_empty() || names.len() < view.nodes.len() {
        return Ok(());
    }
    Err(format!(
        "{}: it has secrets, and its memory would go to its backup in the clear: {} joined with --insecure; give the nodes keys \
         (ftvm keygen), and --tls-dir in place of --insecure",
        app.name,
        names.join(", ")
    ))
}

/// Writes what is to run, unless that is what runs.
fn put(store: &mut Store, args: &UpArgs, wanted: &mut App) -> Result<(), String> {
    let name = wanted.name.clone();
    let mut said = false;
    // Another `up` may be faster.
    for _ in 0..10 {
        let view = look(store)?;
        can_be_secret(&view, wanted)?;
        for other in view.apps.values().filter(|a| a.spec.name != name) {
            if let Some(what) = wanted.shares(&other.spec) {
                return Err(format!(
                    "{name}: the address {what} is that of {}; give it another",
                    other.spec.name
                ));
            }
        }
        if view.unreadable.contains(&name) {
            return Err(format!(
                "{name}: it was written by another version of ftvm; use that one, or ftvm down"
            ));
        }
        let known = view.apps.get(&name);
        wanted.created = unix_time();
        wanted.image = random();
        if let Some(a) = known {
            let state = view.state(a);
            if state == "LOST" && !args.again {
                return Err(format!(
                    "{name}: LOST: the node that held it last is not heard. If it is dead, so is what the app held, and --again \
                     starts it afresh; if it lives, both would answer at one address"
                ));
            }
            if a.spec.same_image(wanted) && !(matches!(view.fact(a), Fact::Over) || state == "LOST") {
                (wanted.image, wanted.created) = (a.spec.image, a.spec.created);
            } else if !said {
                said = true;
                say(&format!(
                    "{name}: another program or other options: the one that runs is stopped, and a new one started"
                ));
            }
        }
        if known.is_some_and(|a| a.spec == *wanted) {
            return Ok(());
        }
        let key = format!("apps/{name}");
        let rev = known.map_or(0, |a| a.rev);
        // Another app may be about to get one of the addresses.
        let done = store.swap(
            &[(key.as_str(), rev), ("given", view.given)],
            &[
                Op::Put(key.clone(), wanted.encode(), None),
                Op::Put("given".to_string(), json!({"version": 1, "to": name}), None),
            ],
        );
        if done == Some(true) {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    Err(format!(
        "{name}: others wrote to the cluster each time this was about to; nothing of it is changed. Try again"
    ))
}

/// Waits until an app is protected, and ready as far as that can be asked. False: not in time.
fn settled(store: &mut Store, args: &UpArgs, app: &App, ready: Option<&Until>) -> Result<bool, String> {
    let (name, end) = (&app.name, Instant::now() + Duration::from_secs(args.wait));
    let (mut last, mut since, mut told) = (String::new(), Instant::now(), false);
    let protected = wait(store, args.wait, |v| {
        let Some(a) = v.apps.get(name) else {
            return Some(Err(format!("{name}: somebody else has taken it down")));
        };
        let state = v.state(a);
        let line = format!("{name}: {state}{}", why(v, a));
        if last != line {
            (last, since, told) = (line, Instant::now(), false);
        }
        // Every app waits for a moment: until nodes have seen it.
        if !told && (state != "WAITING" || since.elapsed() > WAITS) {
            say(&last);
            told = true;
        }
        if state.starts_with("FAILED") {
            let at = a.placed.as_ref().map_or("its node", |p| p.primary.as_str());
            return Some(Err(format!(
                "it is tried again; ftvm logs {name} at {at} may say more"
            )));
        }
        (state == "PROTECTED").then_some(Ok(()))
    })?;
    let (Some(until), true) = (ready, protected) else {
        return Ok(protected);
    };
    let address = app
        .address()
        .parse()
        .map_err(|_| format!("{name}: it has no address"))?;
    while !probe::ask(address, until, Instant::now() + ASKED) {
        if Instant::now() > end {
            say(&format!(
                "{name}: it is protected and does not say that it is ready (from here)"
            ));
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
    Ok(true)
}

fn try_up(args: &UpArgs) -> Result<i32, String> {
    let mut file = appfile::read(&args.file)?;
    pinned(&mut file, &args.way)?;
    let mut all = file.apps()?;
    // What `run` would say of the options is said now.
    let ways = Ways {
        interface: "eth0".to_string(),
        arbiter: "etcd://none:1".to_string(),
        tls_dir: None,
        verify_key: None,
    };
    for app in &all {
        let own = std::iter::once("ftvm".to_string()).chain(app.run_args(&ways, "none:1"));
        super::check_command(own).map_err(|why| format!("{}: {why}", args.file.display()))?;
    }
    let mut store = open(&args.at)?;
    for i in 0..all.len() {
        put(&mut store, args, &mut all[i])?;
        if args.wait > 0 && !settled(&mut store, args, &all[i], file.ready.as_ref())? {
            if i + 1 < all.len() {
                say(&format!(
                    "{} and what follows it are left as they were",
                    all[i + 1].name
                ));
            }
            println!("{}", file.app.name);
            return Ok(EXIT_LATE);
        }
    }
    // Replicas beyond those that are wanted.
    let names: Vec<&String> = all.iter().map(|a| &a.name).collect();
    let view = look(&mut store)?;
    let of_it = |a: &&Known| a.spec.group.as_ref() == Some(&file.app.name) && !names.contains(&&a.spec.name);
    let (lost, more): (Vec<&Known>, Vec<&Known>) = view
        .apps
        .values()
        .filter(of_it)
        .partition(|a| view.state(a) == "LOST");
    for a in lost {
        say(&format!(
            "{}: LOST, and left: ftvm down --force takes it down",
            a.spec.name
        ));
    }
    let more: Vec<String> = more.iter().map(|a| a.spec.name.clone()).collect();
    if !more.is_empty() {
        say(&format!("{}: stopping {}", file.app.name, more.join(", ")));
        write(&mut store, &removed(&more))?;
    }
    println!("{}", file.app.name);
    Ok(0)
}

/// Nothing is to run of these.
fn removed(apps: &[String]) -> Vec<Op> {
    let both = |app: &String| [format!("apps/{app}"), format!("place/{app}")].map(Op::Delete);
    apps.iter().flat_map(both).collect()
}

/// What an app waits for, as far as it can be told.
fn why(view: &View, app: &Known) -> &'static str {
    match view.state(app).as_str() {
        "WAITING" if view.nodes.len() < 2 => " (an app needs two nodes)",
        "WAITING"
            if !view
                .nodes
                .values()
                .any(|n| n.secrets.is_superset(&app.spec.secrets())) =>
        {
            " (no node has all of its secrets: ftvm secret create, on each node that may start it)"
        }
        "WAITING" => " (no two nodes that take apps have the memory, or are in two domains)",
        _ => "",
    }
}

/// `down`: 0 when nothing is left.
pub fn down(args: &DownArgs) -> i32 {
    done(try_down(args))
}

fn try_down(args: &DownArgs) -> Result<i32, String> {
    let mut store = open(&args.at)?;
    let view = look(&mut store)?;
    let mut names = Vec::new();
    for app in &args.apps {
        let replicas = view.apps.values().filter(|a| a.spec.group.as_ref() == Some(app));
        let mut all: Vec<String> = replicas.map(|a| a.spec.name.clone()).collect();
        if view.apps.contains_key(app) || view.unreadable.contains(app) {
            all.push(app.clone());
        }
        if all.is_empty() {
            return Err(format!("no app is named {app}; ftvm ps --cluster lists them"));
        }
        names.extend(all);
    }
    for app in &names {
        let lost = view.apps.get(app).is_some_and(|a| view.state(a) == "LOST");
        if lost && !args.force {
            return Err(format!(
                "{app}: LOST: the node that held it last is not heard, and may answer at its address still. Nobody else is given the \
                 address while the app is there; --force takes it down all the same"
            ));
        }
    }
    write(&mut store, &removed(&names))?;
    let over = wait(&mut store, args.wait, |v| {
        let left = v.left.keys().any(|(app, _)| names.contains(app));
        (!left).then_some(Ok(()))
    })?;
    for app in &args.apps {
        println!("{app}");
    }
    Ok(if over || args.wait == 0 { 0 } else { EXIT_LATE })
}

fn uncordon(store: &mut Store, node: &str) -> Result<(), String> {
    let view = look(store)?;
    if !view.cordoned.contains(node) {
        return Err(format!("{node} is not being drained"));
    }
    write(store, &[Op::Delete(format!("cordon/{node}"))])?;
    println!("{node}");
    Ok(())
}

/// `drain`: 0 when nothing is left on the node.
pub fn drain(args: &DrainArgs) -> i32 {
    done(try_drain(args))
}

fn try_drain(args: &DrainArgs) -> Result<i32, String> {
    let (mut store, node) = (open(&args.at)?, &args.node);
    if args.undo {
        return uncordon(&mut store, node).map(|()| 0);
    }
    let view = look(&mut store)?;
    if !view.nodes.contains_key(node) {
        return Err(format!(
            "no node named {node} holds a lease; ftvm ps --cluster lists them"
        ));
    }
    let key = format!("cordon/{node}");
    write(
        &mut store,
        &[Op::Put(key, json!({"version": 1, "since": unix_time()}), None)],
    )?;
    let (mut last, mut since, mut told) = (String::new(), Instant::now(), false);
    let over = wait(&mut store, args.wait, |v| {
        if !v.nodes.contains_key(node) {
            return Some(Err(format!(
                "{node}: its lease has ended: what it had is taken over, not handed over"
            )));
        }
        let left = v.holders(node);
        let words: Vec<String> = left.iter().map(|(app, role)| format!("{app} ({role})")).collect();
        let line = match left.len() {
            0 => "nothing left".to_string(),
            n => format!("{n} left: {}", words.join(", ")),
        };
        if last != line {
            say(&format!("{node}: {line}"));
            (last, since) = (line, Instant::now());
        }
        if since.elapsed() > STUCK && !std::mem::replace(&mut told, true) {
            say(&format!(
                "{node}: no other node takes them: one that is not drained, has the memory, and is in another domain where \
                 the app requires that"
            ));
        }
        left.is_empty().then_some(Ok(()))
    })?;
    println!("{node}");
    Ok(if over || args.wait == 0 { 0 } else { EXIT_LATE })
}

/// Nodes and apps, as objects.
pub fn describe(view: &View) -> (Vec<Value>, Vec<Value>) {
    let node_state = |name: &str| match view.cordoned.contains(name) {
        true if view.holders(name).is_empty() => "drained",
        true => "draining",
        false => "ready",
    };
    let count = |name: &str, role: &str| view.holders(name).iter().filter(|(_, r)| r == role).count();
    let nodes: Vec<Value> = view
        .nodes
        .iter()
        .map(|(name, n)| {
            json!({"name": name, "state": node_state(name), "domain": n.domain, "agent": n.agent, "memory": n.memory,
                "primaries": count(name, "primary"), "standbys": count(name, "standby"), "joined": n.joined, "build": n.build})
        })
        .collect();
    let app = |a: &Known| {
        let (primary, backup) = match view.fact(a) {
            Fact::Runs { primary, backup } => (Some(primary), backup),
            Fact::Unstarted => (a.placed.as_ref().map(|p| p.primary.clone()), None),
            Fact::Over => (None, None),
        };
        // What is on its way.
        let coming = a
            .placed
            .as_ref()
            .and_then(|p| p.backup.clone())
            .filter(|b| backup.as_ref() != Some(b));
        json!({"name": a.spec.name, "state": view.state(a), "primary": primary, "backup": backup, "next_backup": coming,
            "epoch": a.register.as_ref().map(|r| r.epoch), "address": a.spec.address(), "memory": a.spec.memory,
            "image": format!("{:016x}", a.spec.image), "created": a.spec.created, "command": a.spec.command,
            "oci": a.spec.oci(), "build": view.build(a)})
    };
    (nodes, view.apps.values().map(app).collect())
}

/// `ps --cluster`
pub fn list(at: &Where, as_json: bool) -> Result<(), String> {
    let view = look(&mut open(at)?)?;
    let now = unix_time();
    let (nodes, apps) = describe(&view);
    if as_json {
        println!(
            "{}",
            json!({"version": state::SCHEMA, "nodes": nodes, "apps": apps})
        );
        return Ok(());
    }
    let text = |v: &Value| match v {
        Value::String(s) => s.clone(),
        Value::Null => "-".to_string(),
        other => other.to_string(),
    };
    println!(
        "{:<16} {:<9} {:<12} {:>9} {:>9}  AGENT",
        "NODE", "STATE", "DOMAIN", "PRIMARIES", "STANDBYS"
    );
    for n in &nodes {
        println!(
            "{:<16} {:<9} {:<12} {:>9} {:>9}  {}",
            text(&n["name"]),
            text(&n["state"]),
            text(&n["domain"]),
            text(&n["primaries"]),
            text(&n["standbys"]),
            text(&n["agent"])
        );
    }
    println!(
        "\n{:<20} {:<12} {:<16} {:<16} {:>5} {:<16} {:>6}",
        "APP", "STATE", "PRIMARY", "BACKUP", "EPOCH", "ADDRESS", "AGE"
    );
    for a in &apps {
        let backup = match (&a["backup"], &a["next_backup"]) {
            (Value::Null, Value::String(next)) => format!("({next})"),
            (b, _) => text(b),
        };
        println!(
            "{:<20} {:<12} {:<16} {:<16} {:>5} {:<16} {:>6}",
            text(&a["name"]),
            text(&a["state"]),
            text(&a["primary"]),
            backup,
            text(&a["epoch"]),
            text(&a["address"]),
            super::ps::ago(now.saturating_sub(a["created"].as_u64().unwrap_or(now)))
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::store::Entry;
    use std::collections::{BTreeMap, BTreeSet};

    fn app(options: &[&str]) -> App {
        App {
            name: "kv".to_string(),
            group: None,
            image: 1,
            created: 0,
            net: "ip=192.0.2.50/24".to_string(),
            options: options.iter().map(|o| o.to_string()).collect(),
            command: vec!["memcached".to_string(), "--help".to_string()],
            memory: 64 << 20,
            strict: false,
            stop_s: 10,
        }
    }

    #[test]
    fn secrets_are_refused_where_all_links_are_in_the_clear() {
        let view = |insecure: &[bool]| {
            let entry = |(n, insecure): (usize, &bool)| {
                let node = view::Node {
                    agent: format!("192.0.2.{n}:1"),
                    domain: format!("d{n}"),
                    memory: 1,
                    joined: 0,
                    build: String::new(),
                    older: BTreeMap::new(),
                    secrets: BTreeSet::new(),
                    insecure: *insecure,
                };
                let value = node.encode();
                (format!("nodes/n{n}"), Entry { value, rev: 1 })
            };
            View::new(
                &insecure.iter().enumerate().map(entry).collect(),
                &BTreeMap::new(),
            )
        };
        let (plain, secret) = (app(&[]), app(&["--secret", "db"]));
        for nodes in [&[true, true][..], &[true, false], &[false], &[]] {
            assert_eq!(can_be_secret(&view(nodes), &plain), Ok(()));
        }
        for nodes in [&[true, false][..], &[false], &[]] {
            assert_eq!(can_be_secret(&view(nodes), &secret), Ok(()));
        }
        let why = can_be_secret(&view(&[true, true]), &secret).expect_err("refused");
        assert!(
            why.contains("kv: ") && why.contains("n0, n1 joined with --insecure"),
            "{why}"
        );
    }

    #[test]
    fn a_run_of_an_app_is_one_that_the_command_line_takes() {
        let app = app(&["--workdir", "/", "--memory", "64m", "--env", "A=b"]);
        let ways = Ways {
            interface: "eth0".to_string(),
            arbiter: "etcd://none:1".to_string(),
            tls_dir: None,
            verify_key: None,
        };
        let line = |app: &App| {
            let own = app.run_args(&ways, "none:1").into_iter();
            super::super::check_command(std::iter::once("ftvm".to_string()).chain(own))
        };
        assert_eq!(line(&app), Ok(()));
        let mut bad = app.clone();
        bad.options
            .extend(["--detect-after".to_string(), "soon".to_string()]);
        assert!(line(&bad).is_err_and(|e| e.contains("soon")));
    }
}
