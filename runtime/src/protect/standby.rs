//! The backup's side: a process of the agent for each protected image. It keeps the last snapshot in memfds
//! that become the image's own at a takeover, and the log behind it; it does not execute.

use super::arbiter::{self, Client};
use super::connect;
use super::links::{ToAgent, Unproved};
use super::memory::{Memory, file, memfd};
use super::pipe::Pipe;
use super::room::{self, Reserve};
use super::status::{self, Figure};
use super::strangers::{INTRO_TIME, Strangers};
use super::{Commit, ENV_TAKEOVER, Intro, KNOCK_LEN, Policy, knocked};
use super::{roots, tree};
use crate::link::{LinkError, Security};
use crate::migrate;
use crate::sys::sys;
use crate::talk::{self, Level, Role};
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};
use ftl_core::replica::backup::{Action, Input, Phase, Takeover};
use ftl_core::replica::{Backup, Config, Member};
use std::io::{Read, Seek, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Wait between two looks at the clock, ms.
const TICK_MS: i32 = 2;
/// The primary hears from a standby that is busy at least this often, ns.
const LISTEN_NS: u64 = 3_000_000;

/// Between two looks at the memory of an image that is here already.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(30);
/// After so many bytes of a snapshot it is looked whether there is room for it.
const LOOK_BYTES: usize = 16 << 20;

/// Steps of setting memory aside while a snapshot comes: more than what comes needs.
const STEPS: usize = 2 * LOOK_BYTES / room::STEP as usize;

/// Between two looks for files that the primary has brought, ns.
const HOLD_NS: u64 = 500_000_000;

/// What the image's first process starts from, passed as a memfd.
pub struct Meta {
    /// Encoded `Won`.
    pub won: Vec<u8>,
    /// Encoded host state of the snapshot.
    pub state: Vec<u8>,
    /// Log frames since.
    pub log: Vec<u8>,
    /// Whose image it is.
    pub intro: Intro,
    /// Interface of this host for the image's address.
    pub interface: String,
    /// Directory of this node's keys; empty: none.
    pub tls_dir: String,
    /// Arena, page store.
    pub arenas: (i32, i32),
    /// Pages of spaces.
    pub spaces: Vec<(u32, i32)>,
    /// Files of this host that the image has open, by their contents.
    pub files: Vec<(Vec<u8>, i32)>,
    /// Channel to the arbiter.
    pub arbiter: Option<OwnedFd>,
    /// Channel to whoever brings the image's root to others; none: its root is a directory of the host.
    pub roots: Option<OwnedFd>,
}

impl Meta {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.won.put(&mut out);
        self.state.put(&mut out);
        self.log.put(&mut out);
        let i = &self.intro;
        i.image.put(&mut out);
        for text in [&i.name, &i.net, &i.arbiter, &self.interface, &self.tls_dir] {
            text.clone().into_bytes().put(&mut out);
        }
        (i.policy.detect_ns, i.policy.recovery_ns, i.policy.detach_slow).put(&mut out);
        i.policy.commit.code().put(&mut out);
        i.policy.memory.put(&mut out);
        self.arenas.put(&mut out);
        put_list(&self.spaces, &mut out);
        put_list(&self.files, &mut out);
        for fd in [&self.arbiter, &self.roots] {
            fd.as_ref().map_or(-1, AsRawFd::as_raw_fd).put(&mut out);
        }
        out
    }

    fn decode(mut src: &[u8]) -> Option<Meta> {
        let src = &mut src;
        let (won, state, log) = (Wire::take(src)?, Wire::take(src)?, Wire::take(src)?);
        let image = Wire::take(src)?;
        let mut text = || String::from_utf8(<Vec<u8> as Wire>::take(src)?).ok();
        let (name, net, arbiter) = (text()?, text()?, text()?);
        let (interface, tls_dir) = (text()?, text()?);
        let (detect_ns, recovery_ns, detach_slow) = Wire::take(src)?;
        let commit = Commit::of(Wire::take(src)?)?;
        let memory = Wire::take(src)?;
        let intro = Intro {
            image,
            name,
            net,
            arbiter,
            policy: Policy {
                detect_ns,
                recovery_ns,
                detach_slow,
                commit,
                memory,
            },
        };
        let arenas = Wire::take(src)?;
        let (spaces, files) = (take_list(src)?, take_list(src)?);
        let mut channel = || {
            let fd = i32::take(src)?;
            // SAFETY: the standby process left it open for us.
            Some((fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) }))
        };
        let (arbiter_fd, roots) = (channel()?, channel()?);
        Some(Meta {
            won,
            state,
            log,
            intro,
            interface,
            tls_dir,
            arenas,
            spaces,
            files,
            arbiter: arbiter_fd,
            roots,
        })
    }

    /// In the image's first process: what the standby process left.
    pub fn inherited() -> Option<Meta> {
        let fd: i32 = std::env::var(ENV_TAKEOVER).ok()?.parse().ok()?;
        // SAFETY: the standby process left it open for us.
        let mut f = unsafe { std::fs::File::from_raw_fd(fd) };
        let mut bytes = Vec::new();
        f.rewind().ok()?;
        f.read_to_end(&mut bytes).ok()?;
        Meta::decode(&bytes)
    }
}

/// How the agent wants its standbys.
pub struct Options {
    /// Host interface for the images' addresses.
    pub interface: String,
    /// Number of this node.
    pub node: u64,
    /// How links are secured, and the directory of the keys (empty: none).
    pub security: Security,
    /// See `security`.
    pub tls_dir: String,
    /// Memory for images that may go on here is set aside.
    pub reserve: bool,
    /// For tests of migrations.
    pub fault: Option<migrate::target::Fault>,
}

/// Serves one primary until it is gone for good, or until the image has run here and ended. Returns an exit
/// code.
pub fn serve(mut stream: TcpStream, agent: ToAgent, unproved: Unproved, options: &Options) -> i32 {
    // It becomes the supervisor of an image, which does not end because a peer, or whoever gives an order, has gone.
    // SAFETY: a plain call; one thread.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    talk::set_peer(&peer_of(&stream));
    let first = match first_words(&mut stream) {
        Ok(first) => first,
        // Somebody wanted to know whether there is an agent.
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return 0,
        Err(e) => {
            tracing::warn!("a link: {e}");
            return 1;
        }
    };
    if let Some(id) = migrate::knocked(&first) {
        // The agent has nothing to do with it.
        drop(agent);
        return migrate::target::serve(stream, id, unproved, options);
    }
    if tree::knocked(&first) {
        drop(agent);
        return tree::take(stream, unproved, &options.security);
    }
    if roots::knocked(&first) {
        drop(agent);
        return roots::take(stream, unproved, &options.security);
    }
    match Standby::start(stream, &first, agent, unproved, options) {
        Ok(None) => 0,
        Ok(Some(mut s)) => {
            let code = s.run(options);
            crate::cli::state::adopted_ended(&s.place, code, s.ran || s.was);
            s.tree.remove();
            code
        }
        Err(why) => {
            tracing::warn!("{why}");
            1
        }
    }
}

/// What a link says in the clear before all else.
fn first_words(stream: &mut TcpStream) -> std::io::Result<[u8; KNOCK_LEN]> {
    connect::tune(stream.as_raw_fd());
    stream.set_read_timeout(Some(INTRO_TIME))?;
    let mut first = [0; KNOCK_LEN];
    stream.read_exact(&mut first)?;
    Ok(first)
}

struct Standby {
    intro: Intro,
    link: Option<Pipe>,
    /// Later links that have not shown yet that they are the primary's.
    strangers: Strangers,
    /// Later links of this image come from there, until the image runs here.
    agent: Option<ToAgent>,
    arbiter: Client,
    backup: Backup,
    memory: Memory,
    coming: Vec<Vec<u8>>,
    /// The whole snapshot that comes, so far.
    building: Option<Result<Memory, String>>,
    /// Host state of the snapshot in place.
    state: Vec<u8>,
    /// Name of the image's root.
    root: Vec<u8>,
    /// Snapshot, and its state, once its pages are in place.
    applied: Option<u64>,
    takeover: Option<Takeover>,
    over: Option<i32>,
    /// Memory that is set aside for the image.
    reserve: Reserve,
    /// It is only looked at.
    only_look: bool,
    /// This host has not the memory for the image.
    no_room: Option<String>,
    /// When that was looked at last for an image that is here already.
    looked: Option<std::time::Instant>,
    /// That was said of an image that is here already.
    told_tight: bool,
    /// Bytes of a snapshot that came since that was looked at.
    unlooked: usize,
    /// The image went on here.
    ran: bool,
    /// The run's directory.
    place: crate::cli::state::Run,
    /// It was the image's before it was ours.
    was: bool,
    /// Files of the primary's host: nobody removes them while this lives.
    tree: tree::Tree,
}

/// CLOCK_MONOTONIC, by the vDSO: a standby is no guest process.
fn now() -> u64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid pointer; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

pub(super) fn peer_of(stream: &TcpStream) -> String {
    stream
        .peer_addr()
        .map_or_else(|_| "an unknown host".to_string(), |a| a.to_string())
}

/// The same of a link that is a descriptor.
fn peer_at(fd: i32) -> String {
    // SAFETY: the caller's link has it open meanwhile.
    let copy = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
    copy.map_or_else(|_| String::new(), |fd| peer_of(&TcpStream::from(fd)))
}

/// A random number of the host's.
pub fn random() -> u64 {
    let mut b = [0; 8];
    // SAFETY: the slice is valid for writes.
    let _ = unsafe { sys!(libc::SYS_getrandom, b.as_mut_ptr(), b.len(), 0) };
    u64::from_le_bytes(b)
}

/// A fresh incarnation.
pub fn incarnation(node: u64) -> Member {
    Member {
        node,
        inc: u128::from(random()) << 64 | u128::from(random()),
    }
}

impl Standby {
    /// `None`: the link is another process' now.
    fn start(
        stream: TcpStream,
        first: &[u8; KNOCK_LEN],
        agent: ToAgent,
        unproved: Unproved,
        options: &Options,
    ) -> Result<Option<Standby>, String> {
        let bad = |e: std::io::Error| format!("a primary's link: {e}");
        let image = knocked(first).ok_or("a link that is none of ftvm's; it is closed")?;
        if !agent.register(image, stream.as_fd()).map_err(bad)? {
            return Ok(None);
        }
        let peer = peer_of(&stream);
        let mut strangers = Strangers::default();
        let text = |e: LinkError| e.to_string();
        strangers
            .add(OwnedFd::from(stream), &options.security)
            .map_err(text)?;
        let (link, intro) = loop {
            let mut polled: Vec<libc::pollfd> = std::iter::once(agent.fd())
                .chain(strangers.fds())
                .map(|fd| libc::pollfd {
                    fd,
                    events: libc::POLLIN,
                    revents: 0,
                })
                .collect();
            // SAFETY: valid entries.
            unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, 100) };
            // The image's primary may be behind whoever came first.
            if polled[0].revents != 0
                && let Some(fd) = agent.link().map_err(|()| "the agent has ended")?
            {
                strangers.add(fd, &options.security).map_err(text)?;
            }
            if let Some(found) = strangers.hear(image) {
                break found;
            }
            if let Some(why) = strangers.gone() {
                return Err(format!("a link from {peer}: {why}"));
            }
        };
        drop(unproved);
        crate::control::map().map_err(|e| format!("the control page: {e}"))?;
        talk::set_role(Role::Standby);
        talk::set_run(&intro.name);
        status::set(Figure::Image, intro.image);
        tracing::info!("standby for {} of {}", intro.name, peer);
        let (place, was) = crate::cli::state::adopt(&intro.name, intro.image)?;
        status::set(Figure::Role, status::STANDBY);
        let (ours, theirs) = arbiter::channel().map_err(bad)?;
        let own = (!options.tls_dir.is_empty()).then(|| std::path::Path::new(&options.tls_dir));
        let keys = super::etcd::keys_dir(own);
        arbiter::serve(theirs, arbiter::open(&intro.arbiter, keys.as_deref())?);
        let mut cfg = Config::new(intro.image, incarnation(options.node));
        cfg.build = crate::door::record::build_id();
        intro.policy.apply(&mut cfg);
        let arbiter = Client::new(ours, intro.image);
        Ok(Some(Standby {
            intro,
            link: Some(link),
            strangers,
            agent: Some(agent),
            arbiter,
            backup: Backup::new(cfg, now()),
            memory: Memory::new()?,
            coming: Vec::new(),
            building: None,
            state: Vec::new(),
            root: Vec::new(),
            applied: None,
            takeover: None,
            over: None,
            reserve: Reserve::new()?,
            only_look: !options.reserve,
            no_room: None,
            told_tight: false,
            looked: None,
            unlooked: 0,
            ran: false,
            place,
            was,
            tree: tree::Tree::hold(image)?,
        }))
    }

    fn run(&mut self, options: &Options) -> i32 {
        self.say(Level::Info, "standby for a primary");
        self.step(Input::Link(true));
        self.take_come();
        let (mut ticked, mut hold_at) = (now(), 0);
        loop {
            if let Some(code) = self.over {
                return code;
            }
            if let Some(t) = self.takeover.take() {
                return self.take_over(&t, options);
            }
            let link = self.link.as_ref().map_or(-1, Pipe::fd);
            let agent = self.agent.as_ref().map_or(-1, ToAgent::fd);
            let first = [link, self.arbiter.fd(), agent].into_iter();
            let mut polled: Vec<libc::pollfd> = first
                .chain(self.strangers.fds())
                .map(|fd| libc::pollfd {
                    fd,
                    events: libc::POLLIN,
                    revents: 0,
                })
                .collect();
            if self.link.as_ref().is_some_and(|l| l.unsent() > 0) {
                polled[0].events |= libc::POLLOUT;
            }
            // SAFETY: valid entries.
            unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, TICK_MS) };
            if polled[2].revents != 0 {
                self.take_link(&options.security);
            }
            self.hear_strangers();
            self.take_frames();
            while polled[1].revents != 0
                && let Some(a) = self.arbiter.answer()
            {
                self.step(Input::Arbiter(a));
            }
            if now() - ticked >= 1_000_000 * TICK_MS as u64 {
                ticked = now();
                status::set(Figure::Epoch, u64::from(self.backup.epoch()));
                status::set(Figure::Position, self.backup.holds().map_or(0, |m| m.position));
                status::set(Figure::Acked, u64::from(self.backup.phase() == Phase::Ready));
                status::set(Figure::LogBytes, self.backup.log_bytes());
                self.set_aside(1);
                if ticked > hold_at {
                    hold_at = ticked + HOLD_NS;
                    self.tree.hold_files();
                }
                self.step(Input::Tick);
            }
            if let Some(l) = &mut self.link {
                l.flush();
            }
            if self.link.as_ref().is_some_and(Pipe::broken) {
                self.link = None;
                self.step(Input::Link(false));
            }
        }
    }

    /// The primary has made a new link; the old one is of no use to it any more.
    fn take_link(&mut self, security: &Security) {
        let Some(agent) = &self.agent else { return };
        match agent.link() {
            Ok(Some(fd)) => {
                if let Err(e) = self.strangers.add(fd, security) {
                    self.say(Level::Warn, &e.to_string());
                }
            }
            Ok(None) => {}
            Err(()) => self.agent = None,
        }
    }

    /// A new link replaces the old one when it has shown whose it is: anybody can knock.
    fn hear_strangers(&mut self) {
        if let Some((link, _)) = self.strangers.hear(self.intro.image) {
            talk::set_peer(&peer_at(link.fd()));
            self.say(Level::Info, "a new link to the primary");
            if self.link.take().is_some() {
                self.step(Input::Link(false));
            }
            self.link = Some(link);
            self.step(Input::Link(true));
            // What came right behind the introduction.
            self.take_come();
        }
    }

    fn take_frames(&mut self) {
        if self.link.as_mut().is_some_and(Pipe::fill) {
            self.step(Input::Bytes);
            self.take_come();
        }
    }

    /// Puts the pages of a part in place. That may take longer than the silence that counts as death: records
    /// are taken and acknowledged in between. Time does not pass for the machine, so it decides nothing here.
    fn apply(&mut self) -> Result<(), String> {
        let mut listened = now();
        for c in std::mem::take(&mut self.coming) {
            self.memory.apply(&c)?;
            if now() - listened > LISTEN_NS {
                self.take_frames();
                listened = now();
            }
        }
        Ok(())
    }

    /// Frames that have come.
    fn take_come(&mut self) {
        let mut answered = now();
        loop {
            if now() - answered > LISTEN_NS {
                self.step(Input::Drained);
                answered = now();
            }
            match self.link.as_mut().map(Pipe::frame) {
                Some(Ok(Some(f))) => self.step(Input::Frame(f)),
                Some(Err(e)) => {
                    self.say(Level::Warn, &e.to_string());
                    break;
                }
                _ => break,
            }
        }
        self.step(Input::Drained);
    }

    fn step(&mut self, input: Input) {
        let mut todo = Vec::new();
        self.backup.step(now(), input, &mut todo);
        for a in todo {
            self.act(a);
        }
        let tight = self.no_room.take();
        if let Some(why) = tight.as_ref().filter(|_| self.backup.phase() == Phase::Ready) {
            if !self.told_tight {
                self.say(Level::Warn, &format!("{why}; it stays this image's backup"));
            }
            self.told_tight = true;
        } else if let Some(why) = tight {
            self.applied = None;
            self.step(Input::Refuse { why });
            if let Some(l) = &mut self.link {
                l.part();
            }
        }
        if let Some(snap) = self.applied.take() {
            self.step(Input::Applied { snap });
        }
    }

    fn act(&mut self, a: Action) {
        match a {
            Action::Send(f) => {
                if let Some(l) = &mut self.link {
                    l.send(&f);
                }
            }
            Action::Ask(r) => self.arbiter.ask(&r),
            Action::BaseBegin { parent, .. } => {
                self.coming.clear();
                self.building = (parent == 0).then(Memory::new);
                self.look_for_room();
            }
            // A whole one is built beside what is in place, as it comes; a part waits until it is complete.
            Action::BaseChunk { bytes, .. } => {
                self.unlooked += bytes.len();
                match &mut self.building {
                    Some(b) => {
                        if let Ok(m) = b
                            && let Err(why) = m.apply(&bytes)
                        {
                            *b = Err(why);
                        }
                    }
                    None => self.coming.push(bytes),
                }
                if self.unlooked > LOOK_BYTES {
                    self.look_for_room();
                }
            }
            Action::BaseEnd { snap, manifest } => {
                let done = match self.building.take() {
                    Some(built) => built
                        .and_then(|m| root_of(&manifest).map(|root| (m, root)))
                        .map(|(m, root)| (self.memory, self.root) = (m, root)),
                    None => self.apply(),
                };
                match done {
                    Ok(()) => {
                        self.memory.forget_spaces(&manifest);
                        self.state = manifest;
                        self.applied = Some(snap);
                        tracing::debug!(
                            snapshot = snap,
                            "{}: snapshot {snap} is in place",
                            self.intro.name
                        );
                        if self.unlooked > 0 {
                            self.look_for_room();
                        }
                        // All of it, before this host says that it is the backup.
                        if self.backup.phase() != Phase::Ready {
                            self.set_aside(usize::MAX);
                        }
                    }
                    // Half of it may be in place: nothing here can be used any more.
                    Err(why) => {
                        self.say(Level::Error, &format!("snapshot {snap}: {why}"));
                        self.over = Some(1);
                    }
                }
            }
            Action::BaseVoid => {
                self.coming.clear();
                self.building = None;
            }
            Action::Replay(t) => self.takeover = Some(t),
            Action::GoLive => {}
            Action::CloseLink(why) => {
                self.say(Level::Warn, &format!("closing the link: {why}"));
                self.link = None;
            }
            Action::Discard(why) => {
                self.say(Level::Warn, &format!("standby given up: {why}"));
                self.over = Some(1);
            }
            Action::Ended => {
                self.say(Level::Info, "the image has ended");
                self.over = Some(0);
            }
            Action::Phase(p) => {
                if p == Phase::Ready {
                    self.say(Level::Info, "ready to take over");
                }
            }
            Action::Say(line) => self.say(Level::Info, &line),
        }
    }

    /// A host that could not go on with the image does not become its backup. What is coming counts, or what is in place.
    fn look_for_room(&mut self) {
        self.unlooked = 0;
        // Of what is here already it is only told: the look takes the host's figures together, and the primary waits for our answers.
        if self.backup.phase() == Phase::Ready {
            if self.looked.is_some_and(|t| t.elapsed() < LOOK_AGAIN) {
                return;
            }
            self.looked = Some(std::time::Instant::now());
        }
        let memory = match &self.building {
            Some(Ok(m)) => m,
            _ => &self.memory,
        };
        let (private, limit) = (memory.private(), self.intro.policy.memory);
        self.no_room = self.reserve.aim(private, limit).err();
        if self.backup.phase() != Phase::Ready {
            self.set_aside(STEPS);
        }
    }

    /// Sets memory aside, in so many steps.
    fn set_aside(&mut self, steps: usize) {
        if self.only_look || self.no_room.is_some() {
            return;
        }
        let mut listened = now();
        for _ in 0..steps {
            match self.reserve.step() {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => {
                    self.no_room = Some(why);
                    return;
                }
            }
            // Fewer steps do not take so long.
            if steps > STEPS && now() - listened > LISTEN_NS {
                self.take_frames();
                listened = now();
            }
        }
    }

    fn say(&self, level: Level, line: &str) {
        let name = &self.intro.name;
        match level {
            Level::Error => tracing::error!("{name}: {line}"),
            Level::Warn => tracing::warn!("{name}: {line}"),
            Level::Info => tracing::info!("{name}: {line}"),
            Level::Debug => tracing::debug!("{name}: {line}"),
        }
    }

    /// Won: the image goes on in processes of its own, which start from our memory.
    fn take_over(&mut self, t: &Takeover, options: &Options) -> i32 {
        tracing::info!(
            epoch = t.epoch,
            "{}: taking over in epoch {}",
            self.intro.name,
            t.epoch
        );
        self.ran = true;
        // Who it was.
        talk::set_peer("");
        // The image is no backup any more: links that come now are for a new standby, and it does not end with
        // its agent. (The agent's death would reach it as SIGTERM, an input, and the next backup would obey it.)
        self.agent = None;
        // SAFETY: a plain call.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
        let Some(won) = self.backup.take_over() else {
            self.say(Level::Error, "nothing to take over");
            return 1;
        };
        if let Ok(none) = Reserve::new() {
            std::mem::replace(&mut self.reserve, none).release();
        }
        let log = self.backup.log().flatten().copied().collect();
        // SAFETY: our own descriptor; the copy is for the image.
        let arbiter = unsafe { OwnedFd::from_raw_fd(libc::dup(self.arbiter.fd())) };
        let roots = match roots::serve_taken_over(&self.root, options.security.clone()) {
            Ok(channel) => Some(channel),
            Err(e) => {
                self.say(
                    Level::Warn,
                    &format!("no root will be brought to a new backup: {e}"),
                );
                None
            }
        };
        let meta = Meta {
            won: won.encode(),
            state: self.state.clone(),
            log,
            intro: self.intro.clone(),
            interface: options.interface.clone(),
            tls_dir: options.tls_dir.clone(),
            arenas: (self.memory.arena.as_raw_fd(), self.memory.store.as_raw_fd()),
            spaces: self
                .memory
                .spaces
                .iter()
                .map(|(n, fd)| (*n, fd.as_raw_fd()))
                .collect(),
            files: self.tree.pass(),
            arbiter: Some(arbiter),
            roots,
        };
        let passed = memfd(c"ftvm-takeover", 0).and_then(|fd| {
            file(&fd)
                .write_all(&meta.encode())
                .map_err(|e| format!("memory for a takeover: {e}"))?;
            Ok(fd)
        });
        match passed {
            Ok(fd) => {
                // SAFETY: the arbiter's thread does not look at the environment.
                unsafe { std::env::set_var(ENV_TAKEOVER, fd.as_raw_fd().to_string()) };
                crate::supervisor::run(crate::supervisor::Image::Run)
            }
            Err(why) => {
                self.say(Level::Error, &why);
                1
            }
        }
    }
}

/// The image's root, which is here: a backup without it could not take over, and must not say that it is in sync. The
/// primary has brought it before it connected ([`roots`]): nothing is unpacked here, where the primary waits for answers.
fn root_of(state: &[u8]) -> Result<Vec<u8>, String> {
    let state = crate::snap::state::HostState::decode(state).ok_or("the host's side is damaged")?;
    let (spec, _) = crate::door::start::decode(&state.start, false).ok_or("the image's start is damaged")?;
    crate::platform::root::is_unpacked(&spec.rootfs)?;
    Ok(spec.rootfs)
}
