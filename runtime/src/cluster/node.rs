//! The daemon of a node (`ftvm node join`): its lease, its agent, and what [`reconcile`] says.
//!
//! | what | where | why there |
//! |---|---|---|
//! | the loop | main thread | one order after the other; it polls ([`super::store`] says why) |
//! | the lease | a thread | an order that takes long must not let it end; it stops renewing when the loop hangs |
//! | the agent | a process, `ftvm agent` | it forks standbys, and so has one thread; it ends with the daemon |
//! | images | processes of their own | they outlive the daemon: it can be replaced by a newer one |
//!
//! A daemon that ends takes the standbys of its node with it, and its images run on. It gives back its lease when it is
//! asked to end, so that others need not wait for that.

use super::agents::{Agents, ftvm};
use super::enter;
use super::images::Images;
use super::load;
use super::metrics::{self, Page};
use super::node_id;
use super::note::NodeNote;
use super::notify;
use super::reconcile::{self, Live, Local, Order};
use super::spec::Ways;
use super::store::{Keys, Op, Store};
use super::view::{self, Known, Node, Status, View};
use crate::cli::secret;
use crate::cli::state::{Claim, Run};
use crate::protect::{ENV_IMAGE, ENV_NODE, status};
use crate::talk;
use ftl_images::registry;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at etcd; none after a look that changed something.
pub const POLL: Duration = Duration::from_millis(500);
/// How far what the node's disk says of the store's revision may be behind.
const KEEP: Duration = Duration::from_secs(5);
/// How long an image may take for an order, and its supervisor to say how it stands.
pub const ORDER_TIME: Duration = Duration::from_secs(5);
const STATUS_TIME: Duration = Duration::from_secs(1);
/// A backup that is not in sync, nor on its way, after so long counts as one that cannot be attached.
pub const ATTACH_TIME: Duration = Duration::from_secs(15);
/// How long such a node is avoided.
pub const AVOID_TIME: Duration = Duration::from_secs(120);
/// The same for one whose agent was not reached.
pub const SILENT_TIME: Duration = Duration::from_secs(5);
/// How long an agent may take to be connected to.
const CONNECT_TIME: Duration = Duration::from_millis(300);
/// An order that has not shown by then is given again.
const AGAIN: Duration = Duration::from_secs(5);
/// Pause before a start that failed is tried again.
pub const RETRY: Duration = Duration::from_secs(10);
/// A standby whose primary does not end it is ended after so long.
const STANDBY_GRACE: Duration = Duration::from_secs(20);
/// A loop that stands for so long lets the lease end.
pub const HANGS: Duration = Duration::from_secs(60);

/// What a node is told.
pub struct Config {
    /// Its name.
    pub name: String,
    /// Address on which its agent listens, as others reach it.
    pub listen: String,
    /// Failure domain.
    pub domain: String,
    /// Memory for images, bytes.
    pub memory: u64,
    /// How images are started.
    pub ways: Ways,
    /// Directory of the keys for etcd.
    pub keys: Option<PathBuf>,
    /// How registries are spoken to.
    pub registries: registry::Options,
    /// Time of its lease, seconds.
    pub ttl: u64,
    /// Address of its metrics.
    pub metrics: Option<String>,
    /// Programs of other builds, for backups of images that run on them.
    pub older: Vec<PathBuf>,
    /// It may be another cluster than the one that this node was in.
    pub new_cluster: bool,
}

static ASKED_TO_END: AtomicBool = AtomicBool::new(false);

extern "C" fn on_end(_: i32) {
    ASKED_TO_END.store(true, Ordering::Relaxed);
}

/// The lease, shared with the thread that keeps it.
struct Lease {
    id: AtomicU64,
    /// When the loop came round last, ms since `began`.
    seen: AtomicU64,
    began: Instant,
    over: AtomicBool,
}

impl Lease {
    fn id(&self) -> Option<u64> {
        Some(self.id.load(Ordering::Acquire)).filter(|id| *id != 0)
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn keep(&self, mut store: Store, ttl: u64) {
        while !self.over.load(Ordering::Acquire) {
            let seen = self.seen.load(Ordering::Acquire);
            let hangs = self.now_ms().saturating_sub(seen) > HANGS.as_millis() as u64;
            match self.id() {
                _ if hangs => {}
                None => {
                    if let Some(id) = store.grant(ttl) {
                        self.id.store(id, Ordering::Release);
                    }
                }
                // It has ended: the loop writes its keys again under the next one.
                Some(id) if store.renew(id) == Some(false) => {
                    self.id.store(0, Ordering::Release);
                    continue;
                }
                Some(_) => {}
            }
            std::thread::sleep(Duration::from_millis(ttl * 1000 / 5));
        }
        if let Some(id) = self.id() {
            store.revoke(id);
        }
    }
}

/// A backup that was ordered.
struct Ordered {
    node: String,
    replace: bool,
    /// When first, and when last.
    since: Instant,
    last: Instant,
}

/// The daemon's state.
struct Daemon {
    cfg: Config,
    me: Node,
    store: Store,
    lease: Arc<Lease>,
    /// The lease under which our keys were written last.
    written: Option<u64>,
    /// Of this build, and of others.
    agents: Agents,
    /// The cluster that was joined.
    note: NodeNote,
    /// When that was written last.
    noted: Instant,
    /// When it was last told how busy this node is.
    loaded: Option<Instant>,
    /// Backups that were ordered and are not in sync yet, by run.
    ordered: BTreeMap<String, Ordered>,
    /// Nodes whose agent was not reached, and when.
    silent: BTreeMap<String, Instant>,
    /// Nodes to which an app could not attach its backup, until when.
    avoid: BTreeMap<(String, String), Instant>,
    /// Runs that were asked to end.
    ending: BTreeMap<String, Instant>,
    /// Runs that ended before there was an image.
    failed: BTreeMap<String, Instant>,
    /// Apps that could not be started: when, of which image, and why.
    refused: BTreeMap<String, (Instant, u64, String)>,
    /// Switchovers that were ordered.
    handed: BTreeMap<String, Instant>,
    /// Images (`run --image`).
    images: Images,
    /// Apps of which the image's root is on its way from here to a backup.
    sending: BTreeSet<String>,
    page: Page,
    /// etcd answered at the last look.
    heard: bool,
    /// What was said last about trouble that lasts.
    trouble: String,
}

/// Joins, and stays until a signal ends it. Returns an exit code; the line says why it is not 0.
pub fn join(cfg: Config) -> Result<(), String> {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: the handler stores a flag.
        unsafe { libc::signal(signal, on_end as *const () as libc::sighandler_t) };
    }
    let page = Page::default();
    if let Some(addr) = &cfg.metrics {
        let listener = std::net::TcpListener::bind(addr)
            .map_err(|e| format!("--metrics {addr}: {}", crate::cli::reason(&e)))?;
        metrics::serve(listener, page.clone());
    }
    let mut store = Store::open(&cfg.ways.arbiter, cfg.keys.as_deref())?;
    let note = enter::identity(&mut store, &cfg)?;
    let mut me = Node {
        agent: cfg.listen.clone(),
        domain: cfg.domain.clone(),
        memory: cfg.memory,
        joined: super::unix_time(),
        build: status::build(),
        older: BTreeMap::new(),
        secrets: BTreeSet::new(),
        insecure: cfg.ways.tls_dir.is_none(),
    };
    enter::alone(&mut store, &cfg)?;
    let agents;
    (agents, me.older) = Agents::start(&cfg)?;
    let lease = Arc::new(Lease {
        id: AtomicU64::new(0),
        seen: AtomicU64::new(0),
        began: Instant::now(),
        over: AtomicBool::new(false),
    });
    let (kept, own, ttl) = (
        lease.clone(),
        Store::open(&cfg.ways.arbiter, cfg.keys.as_deref())?,
        cfg.ttl,
    );
    let keeper = std::thread::spawn(move || kept.keep(own, ttl));
    let images = Images::new(cfg.registries.clone(), cfg.ways.verify_key.clone());
    let mut d = Daemon {
        cfg,
        me,
        store,
        lease,
        written: None,
        agents,
        note,
        noted: Instant::now(),
        loaded: None,
        ordered: BTreeMap::new(),
        silent: BTreeMap::new(),
        avoid: BTreeMap::new(),
        ending: BTreeMap::new(),
        failed: BTreeMap::new(),
        refused: BTreeMap::new(),
        handed: BTreeMap::new(),
        images,
        sending: BTreeSet::new(),
        page,
        heard: true,
        trouble: String::new(),
    };
    let done = d.run();
    notify::tell("STOPPING=1");
    drop(std::mem::take(&mut d.agents));
    d.lease.over.store(true, Ordering::Release);
    let _ = keeper.join();
    done
}

/// The runs of this node that are apps' or could be, and what they say of themselves.
fn locals(view: &View, cluster: u64) -> (Vec<Local>, BTreeMap<String, Value>) {
    let (mut all, mut figures) = (Vec::new(), BTreeMap::new());
    for run in Run::all().unwrap_or_default() {
        let Claim {
            app, image, revision, ..
        } = match (run.app(), run.image()) {
            (Some(claim), _) if claim.cluster != cluster => continue,
            (Some(before), _) => match view.apps.get(&before.app) {
                // What does not need a new image may have changed.
                Some(known) if known.spec.image == before.image => {
                    let now = claim(cluster, known);
                    if now != before && run.note_app(&now).is_err() {
                        continue;
                    }
                    now
                }
                _ => before,
            },
            // A standby that the agent has made.
            (None, Some(image)) => {
                let of = view.apps.iter().find(|(_, a)| a.spec.image == image);
                let Some((_, known)) = of else { continue };
                let claim = claim(cluster, known);
                if run.note_app(&claim).is_err() {
                    continue;
                }
                claim
            }
            (None, None) => continue,
        };
        let live = run.pid().map(|_| {
            // One that begins answers nothing yet, and there may be many after the host has started.
            let s = match crate::cli::state::begins(&run.dir) {
                true => Value::Null,
                false => crate::orders::send_within(&run.dir, &json!({"verb": "status"}), Some(STATUS_TIME))
                    .unwrap_or(Value::Null),
            };
            let live = Live {
                primary: s["role"] == "primary",
                state: match s["role"].as_str() {
                    Some("standby") if s["ready"] == true => "ready".to_string(),
                    Some("standby") => "copying".to_string(),
                    Some("primary") => s["state"].as_str().unwrap_or_default().to_string(),
                    // It begins or ends.
                    _ => "boot".to_string(),
                },
                build: s["build"].as_str().map(str::to_string),
            };
            let mut s = s;
            s["pid"] = run.pid().into();
            figures.insert(app.clone(), s);
            live
        });
        all.push(Local {
            code: run.status(),
            run: run.name,
            app,
            image,
            revision,
            live,
        });
    }
    (all, figures)
}

/// What a run of this app keeps.
fn claim(cluster: u64, app: &Known) -> Claim {
    Claim {
        app: app.spec.name.clone(),
        image: app.spec.image,
        cluster,
        revision: app.rev,
        stop_s: app.spec.stop_s,
    }
}

impl Daemon {
    fn run(&mut self) -> Result<(), String> {
        let mut ready = false;
        while !ASKED_TO_END.load(Ordering::Relaxed) {
            if let Some(status) = self.agents.ended() {
                return Err(format!("the agent has ended: {status}"));
            }
            // Told with the node's keys, where placements read it.
            if let Some(older) = self.agents.tend(&self.cfg, &mut |line| tracing::warn!("{line}")) {
                self.me.older = older;
            }
            self.lease.seen.store(self.lease.now_ms(), Ordering::Release);
            let began = Instant::now();
            let changed = self.look();
            if !ready && self.written.is_some() {
                ready = true;
                notify::tell("READY=1");
                tracing::info!("node {} has joined", self.cfg.name);
            }
            notify::tell("WATCHDOG=1");
            while !changed && began.elapsed() < POLL && !ASKED_TO_END.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// Trouble that lasts is told once.
    fn trouble(&mut self, line: &str) {
        if self.trouble != line {
            tracing::warn!("{line}");
            notify::tell(&format!("STATUS={line}"));
            self.trouble = line.to_string();
        }
    }

    fn read(&mut self) -> Option<(Keys, View)> {
        let keys = self.store.read()?;
        let registers = self.store.registers(&view::images(&keys))?;
        let mut view = View::new(&keys, &registers);
        view.revision = self.store.revision;
        Some((keys, view))
    }

    /// Reads, tells, plans and obeys, once. True: another look should follow at once.
    fn look(&mut self) -> bool {
        let Some((keys, view)) = self.read() else {
            self.heard = false;
            let line = format!(
                "{}; images go on as they are, nothing is started, moved or stopped",
                self.store.silence()
            );
            self.trouble(&line);
            self.set_page(None, &BTreeMap::new());
            return false;
        };
        if let Some(why) = self.note.differs(view.id, view.revision) {
            self.trouble(&format!(
                "{why}: nothing is started, moved or stopped; restart this node with --new-cluster if that is as it should be"
            ));
            return false;
        }
        self.keep(view.revision);
        if !std::mem::replace(&mut self.heard, true) || !self.trouble.is_empty() {
            self.trouble.clear();
            notify::tell("STATUS=in the cluster");
        }
        let (locals, figures) = locals(&view, self.note.cluster.unwrap_or(0));
        self.set_page(Some(&view), &figures);
        self.tell(&keys, &view, &locals, &figures);
        let mut changed = self.place(&keys, &view);
        self.images.fetch_ahead(&view, &self.cfg.name);
        let sends = |s: &Value| s["sends_root"] == true;
        self.sending = figures
            .iter()
            .filter(|(_, s)| sends(s))
            .map(|(app, _)| app.clone())
            .collect();
        let orders = reconcile::orders(&view, &self.cfg.name, &locals);
        let live: BTreeSet<&String> = locals
            .iter()
            .filter(|l| l.live.is_some())
            .map(|l| &l.run)
            .collect();
        self.ending.retain(|run, _| live.contains(run));
        self.handed.retain(|run, _| live.contains(run));
        let alone = |run: &String| {
            let local = locals
                .iter()
                .find(|l| l.run == *run)
                .and_then(|l| l.live.as_ref());
            local.is_some_and(|l| l.state != "protected")
        };
        self.ordered
            .retain(|run, o| live.contains(run) && (o.replace || alone(run)));
        for o in orders {
            tracing::debug!("order: {o:?}");
            changed |= self.obey(&view, &o);
        }
        changed
    }

    /// Remembers how new the store was.
    fn keep(&mut self, revision: u64) {
        let newer = revision > std::mem::replace(&mut self.note.revision, revision);
        if newer && self.noted.elapsed() > KEEP {
            self.noted = Instant::now();
            let done = joined().and_then(|path| self.note.write(&path));
            if let Err(why) = done {
                tracing::warn!("{why}");
            }
        }
    }

    fn set_page(&self, view: Option<&View>, figures: &BTreeMap<String, Value>) {
        let text = metrics::page(&self.cfg.name, view, figures);
        *self.page.lock().unwrap_or_else(|e| e.into_inner()) = text;
    }

    /// Writes what others are to know: this node, and what it has.
    fn tell(&mut self, keys: &Keys, view: &View, locals: &[Local], figures: &BTreeMap<String, Value>) {
        let Some(lease) = self.lease.id() else { return };
        let name = &self.cfg.name;
        let mut ops = Vec::new();
        let load = load::key(name);
        if !keys.contains_key(load::WATCH) {
            ops.extend(keys.contains_key(&load).then_some(Op::Delete(load)));
        } else if self.loaded.is_none_or(|at| at.elapsed() >= load::EVERY) {
            self.loaded = Some(Instant::now());
            ops.push(Op::Put(load, load::measure(figures), Some(lease)));
        }
        let anew = self.written != Some(lease);
        let mut put = |key: String, value: Value| {
            if anew || keys.get(&key).is_none_or(|e| e.value != value) {
                ops.push(Op::Put(key, value, Some(lease)));
            }
        };
        // A node tells of no secret that nobody asks for, and of none that it could not keep.
        let asked = view.secrets().into_iter().filter(|_| !self.me.insecure);
        self.me.secrets = asked.filter(|s| secret::is_here(s)).collect();
        put(format!("nodes/{name}"), self.me.encode());
        let now = Instant::now();
        self.avoid.retain(|_, until| *until > now);
        let mut told = BTreeSet::new();
        // What lives counts for more than what has ended, and what is wanted for more than what is to go.
        let mut ordered: Vec<&Local> = locals.iter().collect();
        let stale = |l: &Local| view.apps.get(&l.app).is_none_or(|a| a.spec.image != l.image);
        ordered.sort_by_key(|l| (l.live.is_none(), stale(l)));
        for l in ordered {
            let current = view.apps.get(&l.app).filter(|a| a.spec.image == l.image);
            let named = current.and_then(|a| a.register.as_ref()).map(|r| r.primary.node);
            let (role, state) = match (&l.live, current) {
                (Some(live), None) => ("stale", live.state.clone()),
                (Some(live), Some(_)) if live.primary => ("primary", live.state.clone()),
                (Some(live), Some(_)) => ("standby", live.state.clone()),
                (None, None) => continue,
                (None, Some(a)) => {
                    let code = l.code.map_or("lost".to_string(), |c| c.to_string());
                    match &a.register {
                        None => ("failed", code),
                        // The image ended here by itself; where another node goes on, this run tells nothing.
                        Some(_) if named == Some(node_id(name)) && l.code.is_some() => ("ended", code),
                        // The host ended it, or came up again without it.
                        Some(_) if named == Some(node_id(name)) => ("lost", code),
                        Some(_) => continue,
                    }
                }
            };
            let key = format!("status/{}/{name}", l.app);
            if !told.insert(key.clone()) {
                continue;
            }
            let avoid = self.avoid.keys().filter(|(app, _)| *app == l.app);
            let status = Status {
                image: l.image,
                role: role.to_string(),
                state,
                build: l.live.as_ref().and_then(|l| l.build.clone()),
                avoid: avoid.map(|(_, n)| n.clone()).collect(),
            };
            put(key, status.encode());
        }
        for (app, (_, image, why)) in &self.refused {
            let key = format!("status/{app}/{name}");
            let current = view
                .apps
                .get(app)
                .filter(|a| a.spec.image == *image && a.register.is_none());
            if current.is_some() && told.insert(key.clone()) {
                let status = Status {
                    image: *image,
                    role: "failed".to_string(),
                    state: why.clone(),
                    build: None,
                    avoid: BTreeSet::new(),
                };
                put(key, status.encode());
            }
        }
        let mine = format!("/{name}");
        let old = keys
            .keys()
            .filter(|k| k.starts_with("status/") && k.ends_with(&mine) && !told.contains(*k));
        ops.extend(old.map(|k| Op::Delete(k.clone())));
        if ops.is_empty() || self.store.write(&ops).is_some() {
            self.written = Some(lease);
        }
    }

    /// Writes where apps are to be, if this node is the first to find out.
    fn place(&mut self, keys: &Keys, view: &View) -> bool {
        // Without a lease this node may be cut off from others that see more.
        if !keys.contains_key(&format!("nodes/{}", self.cfg.name)) {
            return false;
        }
        let mut changed = false;
        for (app, p) in view.plan() {
            let known = &view.apps[&app];
            let (app_key, key) = (format!("apps/{app}"), format!("place/{app}"));
            let value = json!({"version": 1, "image": format!("{:016x}", known.spec.image), "primary": p.primary,
                "backup": p.backup});
            let expect = [(app_key.as_str(), known.rev), (key.as_str(), known.place_rev)];
            // Refused: another node was faster. Not known: the next look tells.
            if self.store.swap(&expect, &[Op::Put(key.clone(), value, None)]) != Some(true) {
                // What follows was fitted around this one.
                return changed;
            }
            changed = true;
        }
        changed
    }

    fn obey(&mut self, view: &View, order: &Order) -> bool {
        let now = Instant::now();
        let done = match order {
            Order::Start { app, backup } => self.try_start(view, app, backup),
            Order::Protect {
                run,
                app,
                backup,
                at,
                replace,
            } => self.protect(run, app, (backup, at), *replace),
            Order::Switchover { run } => {
                let again = self.handed.get(run).is_none_or(|t| now - *t > AGAIN);
                match again {
                    true => {
                        self.handed.insert(run.clone(), now);
                        send(run, &json!({"verb": "switchover"})).map(|()| false)
                    }
                    false => Ok(false),
                }
            }
            Order::Stop { run, primary } => self.stop(run, *primary).map(|()| false),
            Order::Remove { run } => Run::find(run).and_then(|r| r.remove()).map(|()| true),
            Order::Retry { run } => {
                let since = *self.failed.entry(run.clone()).or_insert(now);
                match now - since > RETRY {
                    true => {
                        self.failed.remove(run);
                        Run::find(run).and_then(|r| r.remove()).map(|()| true)
                    }
                    false => Ok(false),
                }
            }
        };
        done.unwrap_or_else(|why| {
            match order {
                Order::Start { app, .. } => tracing::error!(app, "{app}: starting it: {why}"),
                _ => tracing::warn!("{why}"),
            }
            false
        })
    }

    fn try_start(&mut self, view: &View, app: &str, backup: &str) -> Result<bool, String> {
        let image = view.apps[app].spec.image;
        let now = Instant::now();
        let refused = self
            .refused
            .get(app)
            .filter(|(at, i, _)| *i == image && now - *at < RETRY);
        if refused.is_some() {
            return Ok(false);
        }
        let oci = view.apps[app].spec.oci();
        let done = match oci.map(|name| self.images.look(name)) {
            Some(Ok(false)) => return Ok(false),
            Some(Err(why)) => Err(why),
            Some(Ok(true)) | None => self.start(view, app, backup),
        };
        if let (Err(_), Some(name)) = (&done, oci) {
            self.images.doubt(name);
        }
        match &done {
            Ok(()) => drop(self.refused.remove(app)),
            Err(why) => drop(self.refused.insert(app.to_string(), (now, image, why.clone()))),
        }
        done.map(|()| true)
    }

    fn start(&self, view: &View, app: &str, backup: &str) -> Result<(), String> {
        let spec = &view.apps[app].spec;
        let at = view.nodes[backup].agent_of(&self.me.build);
        let mut c = ftvm(&spec.run_args(&self.cfg.ways, at), self.cfg.keys.as_deref())?;
        c.env(ENV_NODE, format!("{:x}", node_id(&self.cfg.name)));
        c.env(ENV_IMAGE, format!("{:x}", spec.image));
        let out = c.output().map_err(|e| crate::cli::reason(&e))?;
        if !out.status.success() {
            return Err(talk::said(&String::from_utf8_lossy(&out.stderr)));
        }
        tracing::info!(app, backup, "{app}: started, its backup is to be at {backup}");
        Run::find(app)?.note_app(&claim(self.note.cluster.unwrap_or(0), &view.apps[app]))
    }

    /// The image tries a backup again by itself, so it is told once, and again when that does not show. True: another node
    /// is to be sought.
    fn protect(
        &mut self,
        run: &str,
        app: &str,
        (backup, at): (&str, &str),
        replace: bool,
    ) -> Result<bool, String> {
        let now = Instant::now();
        let before = self
            .ordered
            .get(run)
            .filter(|o| o.node == backup && o.replace == replace);
        let (mut since, last) = before.map_or((now, None), |o| (o.since, Some(o.last)));
        if self.sending.contains(app) {
            // That takes as long as it takes.
            since = now;
        }
        if last.is_some_and(|t| now - t < AGAIN) {
            return Ok(false);
        }
        // A node that has just died has its lease still.
        let silent = !self.reaches(backup, at);
        if silent || now - since > ATTACH_TIME && !replace {
            let time = if silent { SILENT_TIME } else { AVOID_TIME };
            tracing::warn!(
                app,
                run,
                backup,
                "{app}: no backup could be attached at {backup}; another node is sought"
            );
            self.avoid
                .insert((app.to_string(), backup.to_string()), now + time);
            self.ordered.remove(run);
            return Ok(true);
        }
        let order = Ordered {
            node: backup.to_string(),
            replace,
            since,
            last: now,
        };
        self.ordered.insert(run.to_string(), order);
        send(run, &json!({"verb": "protect", "backup": at, "replace": replace}))?;
        tracing::info!(app, run, backup, "{app}: its backup is to be at {backup}");
        Ok(false)
    }

    /// An agent can be connected to, or could not be just now.
    fn reaches(&mut self, node: &str, agent: &str) -> bool {
        if self.silent.get(node).is_some_and(|t| t.elapsed() < SILENT_TIME) {
            return false;
        }
        let addr = agent.parse::<std::net::SocketAddr>();
        let reached = addr.is_ok_and(|a| std::net::TcpStream::connect_timeout(&a, CONNECT_TIME).is_ok());
        match reached {
            true => drop(self.silent.remove(node)),
            false => drop(self.silent.insert(node.to_string(), Instant::now())),
        }
        reached
    }

    fn stop(&mut self, run: &str, primary: bool) -> Result<(), String> {
        let now = Instant::now();
        let found = Run::find(run)?;
        // The app's key is gone by now, or says what the next image is to have.
        let grace = found.app().map_or(10, |claim| claim.stop_s);
        let since = *self.ending.entry(run.to_string()).or_insert(now);
        let asked = since != now;
        match primary {
            true if !asked => {
                tracing::info!(run, "{run}: stopping");
                found.signal(libc::SIGTERM)?;
            }
            // Its backup would go on otherwise: that one has ended by then, or is ended as soon as it does.
            true if now - since > Duration::from_secs(grace) => {
                found.signal(libc::SIGKILL)?;
            }
            false if now - since > STANDBY_GRACE => {
                found.signal(libc::SIGTERM)?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn send(run: &str, order: &Value) -> Result<(), String> {
    let found = Run::find(run)?;
    let answer = crate::orders::send_within(&found.dir, order, Some(ORDER_TIME))
        .map_err(|e| format!("{run}: its supervisor: {}", crate::cli::reason(&e)))?;
    match answer["ok"] == true {
        true => Ok(()),
        false => Err(format!(
            "{run}: {}",
            answer["why"].as_str().unwrap_or("no answer")
        )),
    }
}

/// The node that was joined from this host, for commands that are told no arbiter: where it is kept.
pub fn joined() -> Result<std::path::PathBuf, String> {
    Ok(crate::cli::state::base()?.join(".node.json"))
}
