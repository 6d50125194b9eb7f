//! The host that an image leaves: a thread of its supervisor. See the module above for who runs when.

use super::{Kind, MoveId, PATIENCE, VERSION, knock, receive, send};
use crate::link::conn::Link;
use crate::link::{LinkError, Security, connect_saying};
use crate::protect::chunk::Chunks;
use crate::snap::file::FromFiles;
use crate::snap::live::{Live, Next, Pace};
use crate::snap::restore::Source as _;
use crate::snap::rounds::Round;
use crate::snap::state::HostState;
use crate::snap::{Object, Sink};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a target may take to make the image from what it has, while the image stands here.
pub const MAKE_PATIENCE: Duration = Duration::from_secs(5);
/// How long RUNS is waited for before the target's register is asked.
const RUN_PATIENCE: Duration = Duration::from_secs(2);
/// Time to connect, handshake included.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer is waited for on a link that cannot be written any more.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Pause between questions about the register.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// What the last round costs beside its pages, at the first guess: the target makes processes and opens files.
const FIXED: Duration = Duration::from_millis(10);
/// Time between two progress lines within one round.
const TELL: Duration = Duration::from_secs(1);

/// The operator says that the target is dead for good (`--take-back`).
static TAKE_BACK: AtomicBool = AtomicBool::new(false);
/// A migration is in doubt.
static IN_DOUBT: AtomicBool = AtomicBool::new(false);

/// What is wanted.
pub struct Wanted {
    /// Name of the run.
    pub name: String,
    /// `HOST:PORT` of the target's agent.
    pub to: String,
    /// How the link is secured.
    pub security: Security,
    /// What may be left behind (`HOW_*`).
    pub how: u32,
    /// The image is to stand no longer than that.
    pub max_downtime: Duration,
    /// Before the image is handed over, all that the target has is compared with it.
    pub verify: bool,
    /// The run's command, for the target's `ftvm ps`.
    pub command: Value,
}

/// Whoever has asked: hears lines, and may call it off.
pub trait Asker {
    /// A progress line or another object.
    fn tell(&mut self, what: Value);
    /// It wants no more.
    fn gone(&mut self) -> bool;
}

/// Lets an image go on whose migration is in doubt. An error if none is.
pub fn take_back() -> Result<(), String> {
    if !IN_DOUBT.load(Relaxed) {
        return Err("no migration of this image is in doubt".to_string());
    }
    TAKE_BACK.store(true, Relaxed);
    Ok(())
}

/// Pages on their way to the target.
struct ToLink<'a> {
    chunks: Chunks<'a>,
    stop: &'a mut dyn FnMut(u64) -> Result<(), String>,
    given: u64,
}

impl Sink for ToLink<'_> {
    fn pages(&mut self, object: Object, first: u64, bytes: &[u8]) -> Result<(), String> {
        self.given += bytes.len() as u64 / ftl_core::layout::PAGE;
        (self.stop)(self.given)?;
        self.chunks.pages(object, first, bytes)
    }
    fn gone(&mut self, object: Object, first: u64, count: u64) -> Result<(), String> {
        self.chunks.gone(object, first, count)
    }
}

/// One migration.
struct Source<'a> {
    w: &'a Wanted,
    id: MoveId,
    link: Link,
    live: Live,
    asker: &'a mut dyn Asker,
    /// Whose register decides ([`super::register::registrar`]).
    registrar: Vec<u8>,
    image: u64,
}

/// Migrates the image that this process supervises. Returns the last object for the asker, having released the image: it
/// ends here if that says `ok`. `told` is called with it just before the image ends.
pub fn migrate(w: &Wanted, asker: &mut dyn Asker) -> Value {
    match begin(w, asker) {
        Ok(told) => told,
        Err(why) => json!({"ok": false, "why": format!("{why}; the image goes on here")}),
    }
}

fn begin(w: &Wanted, asker: &mut dyn Asker) -> Result<Value, String> {
    let id = crate::protect::standby::random();
    let link = connect_saying(&w.to, &knock(id), &w.security, CONNECT).map_err(|e| e.to_string())?;
    crate::protect::connect::tune(link.fd());
    let mut s = Source {
        w,
        id,
        link,
        live: Live::new(w.how)?,
        asker,
        registrar: Vec::new(),
        image: 0,
    };
    s.link.set_max_message(super::MAX_MESSAGE);
    s.run()
}

impl Source<'_> {
    fn wait(&mut self, want: Kind, limit: Duration) -> Result<Vec<u8>, String> {
        let asker = &mut *self.asker;
        match receive(&mut self.link, limit, &mut || asker.gone())? {
            (kind, bytes) if kind == want => Ok(bytes),
            (Kind::No, why) => Err(format!("{}: {}", self.w.to, String::from_utf8_lossy(&why))),
            (kind, _) => Err(format!("{}: it answered {kind:?}", self.w.to)),
        }
    }

    fn send(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), String> {
        send(&mut self.link, kind, bytes).map_err(|e| format!("{}: {e}", self.w.to))
    }

    fn run(&mut self) -> Result<Value, String> {
        let first = self.live.look()?;
        if !first.follows {
            return Err("its changes cannot be followed (it is protected: ftvm switchover hands it over; or the host's Linux is older than 6.7)".to_string());
        }
        let state = HostState::decode(&first.state).ok_or("the host's side is damaged")?;
        if !state.moved.is_empty() {
            return Err("its volumes are directories of this run, which a restore gave it (checkpoint --volumes snapshot): they do not travel".to_string());
        }
        if state.log.is_some() {
            return Err("it is recorded, and its log stays on this host".to_string());
        }
        let (len, xcr0) = crate::vcpu::xsave_facts();
        self.image = first.image;
        let offer = json!({
            "version": VERSION, "build": crate::store::open::digits(&crate::door::record::build_id()),
            "ftvm": env!("CARGO_PKG_VERSION"), "image": format!("{:x}", first.image), "name": self.w.name,
            "command": self.w.command, "xsave": len, "xcr0": xcr0, "net": !state.interface.is_empty(),
        });
        self.send(Kind::Offer, offer.to_string().as_bytes())?;
        self.registrar = self.wait(Kind::Ok, PATIENCE)?;
        if self.registrar.len() != size_of::<u64>() {
            return Err(format!("{}: it does not say who it is", self.w.to));
        }
        let mut pace = Pace::new(self.w.max_downtime, FIXED);
        let prepare = first.state.clone();
        let mut round = first;
        loop {
            let next = self.round(&round, &mut pace)?;
            if pace.rounds() == 1 {
                self.send(Kind::Prepare, &prepare)?;
                self.wait(Kind::Ready, PATIENCE)?;
            }
            match next {
                Next::Round => round = self.live.look()?,
                Next::Fits(_) => break,
                Next::Useless(d) => {
                    self.asker.tell(json!({"note": format!(
                        "more rounds do not help: the image changes {:.0} pages a second, the link takes {:.0}; it will stand for about {} ms",
                        pace.dirtied, pace.rate, d.as_millis()
                    )}));
                    break;
                }
            }
        }
        self.hand_over(&pace)
    }

    /// One round while the image runs.
    fn round(&mut self, round: &Round, pace: &mut Pace) -> Result<Next, String> {
        let looked = Instant::now();
        let expected = round.pages();
        let n = pace.rounds();
        let given = self.give(round, Some((n, expected)))?;
        self.send(Kind::Round, &[])?;
        self.wait(Kind::Round, PATIENCE)?;
        let ended = Instant::now();
        let next = pace.round(looked, looked, ended, given);
        let took = ended.duration_since(looked);
        let left = pace.dirtied * took.as_secs_f64();
        // Each round leaves what was written while it was sent: a falling series if the link is faster.
        let share = (pace.dirtied / pace.rate).min(0.99);
        let eta = left / pace.rate / (1.0 - share);
        self.asker.tell(json!({
            "round": n, "pages": given, "ms": took.as_millis() as u64, "pages_per_s": pace.rate as u64,
            "dirtied_per_s": pace.dirtied as u64, "eta_ms": (eta * 1e3) as u64, "done": true,
        }));
        Ok(next)
    }

    /// Sends the pages of a round. `shown`: its number, and how many are expected.
    fn give(&mut self, round: &Round, shown: Option<(u32, u64)>) -> Result<u64, String> {
        let Source {
            link, live, asker, ..
        } = self;
        let mut broken = None;
        let begun = Instant::now();
        let mut told = begun;
        let mut send_chunk = |c: Vec<u8>| {
            if broken.is_none() && !c.is_empty() {
                broken = send(link, Kind::Pages, &c).err();
            }
        };
        let mut stop = |given: u64| {
            if asker.gone() {
                return Err("aborted".to_string());
            }
            if let Some((n, expected)) = shown.filter(|_| told.elapsed() > TELL) {
                told = Instant::now();
                let rate = given as f64 / begun.elapsed().as_secs_f64().max(1e-6);
                let eta = expected.saturating_sub(given) as f64 / rate.max(1.0);
                asker.tell(json!({
                    "round": n, "pages": given, "of": expected, "pages_per_s": rate as u64,
                    "eta_ms": (eta * 1e3) as u64, "done": false,
                }));
            }
            Ok(())
        };
        let mut sink = ToLink {
            chunks: Chunks::new(&mut send_chunk),
            stop: &mut stop,
            given: 0,
        };
        live.copy(round, &mut sink)?;
        sink.chunks.finish();
        let given = sink.given;
        match broken {
            Some(e) => Err(self.last_words(&e)),
            None => Ok(given),
        }
    }

    /// The link broke while something was being sent: the target may have said why before it left.
    fn last_words(&mut self, e: &LinkError) -> String {
        match receive(&mut self.link, LAST_WORDS, &mut || false) {
            Ok((Kind::No, why)) => format!("{}: {}", self.w.to, String::from_utf8_lossy(&why)),
            _ => format!("{}: {e}", self.w.to),
        }
    }

    /// All of the image once more: the target compares what it has with it. An error names the first page that differs.
    fn verify(&mut self) -> Result<(), String> {
        let (memory, path) = self.live.copy_standing()?;
        let (link, asker) = (&mut self.link, &mut *self.asker);
        let mut broken = None;
        let mut send_chunk = |c: Vec<u8>| {
            if broken.is_none() && !c.is_empty() {
                broken = send(link, Kind::Check, &c).err();
            }
        };
        let mut chunks = Chunks::new(&mut send_chunk);
        FromFiles::plain(path).load(&mut |object, first, bytes| {
            if asker.gone() {
                return Err("aborted".to_string());
            }
            chunks.pages(object, first, bytes)
        })?;
        chunks.finish();
        drop(memory);
        if let Some(e) = broken {
            return Err(self.last_words(&e));
        }
        self.send(Kind::Checked, &[])?;
        self.wait(Kind::Checked, PATIENCE).map(drop)
    }

    /// The last round, and the decision. On an error the image goes on here (`Live`).
    fn hand_over(&mut self, pace: &Pace) -> Result<Value, String> {
        let last = self.live.stop()?;
        let pages = self.give(&last, None)?;
        if self.w.verify {
            self.verify()?;
        }
        self.send(Kind::Final, &last.state)?;
        self.wait(Kind::Stands, MAKE_PATIENCE)?;
        // From here on the image is not ours to run, whatever fails here.
        self.live.given_away(true);
        let committed = self
            .send(Kind::Commit, &[])
            .and_then(|()| self.link.drain(PATIENCE).map_err(|e| e.to_string()));
        let answer = committed
            .and_then(|()| receive(&mut self.link, RUN_PATIENCE, &mut || false))
            .map_err(|why| format!("{}: {why}", self.w.to));
        let downtime = self.live.stopped().map_or(Duration::ZERO, |t| t.elapsed());
        let confirmed = matches!(answer, Ok((Kind::Runs, _)));
        let why = match answer {
            Ok((Kind::Runs, _)) => None,
            // It has given the image back before it said so.
            Ok((Kind::No, why)) => Some(format!("{}: {}", self.w.to, String::from_utf8_lossy(&why))),
            Ok((kind, _)) => self.settle(format!("{}: it answered {kind:?}", self.w.to)),
            Err(why) => self.settle(why),
        };
        if let Some(why) = why {
            self.live.given_away(false);
            return Err(why);
        }
        let told = json!({
            "ok": true, "to": self.w.to, "rounds": pace.rounds(), "last_pages": pages,
            "downtime_us": downtime.as_micros() as u64, "confirmed": confirmed, "verified": self.w.verify,
        });
        if let Ok(run) = crate::cli::state::Run::find(&self.w.name) {
            // By which it is known if it comes back; before it is said that it has gone, which is what it is waited for then.
            crate::cli::state::note_image(&self.w.name, self.image);
            run.note_moved(&self.w.to);
        }
        tracing::info!(peer = self.w.to, "{}: migrated to {}", self.w.name, self.w.to);
        // The asker hears it before the image, and this process, end.
        self.asker.tell(told.clone());
        self.live.end();
        Ok(told)
    }

    /// COMMIT was sent, and what became of it is not known. Asks the target's register until it answers. `None`: the image
    /// is the target's; else why it is ours.
    fn settle(&mut self, why: String) -> Option<String> {
        // What was left of an earlier one is not meant for this one.
        TAKE_BACK.store(false, Relaxed);
        IN_DOUBT.store(true, Relaxed);
        let mut said = false;
        let ours = loop {
            match self.ask() {
                Ok(committed) => break !committed,
                Err(e) if !said => {
                    said = true;
                    let line = format!(
                        "{why}; whether the image runs there is not known, and it stands still here until its agent answers ({e}); if that host is dead for good, ftvm migrate {} --take-back",
                        self.w.name
                    );
                    tracing::warn!(peer = self.w.to, "{line}");
                    self.asker.tell(json!({"note": line}));
                }
                Err(_) => {}
            }
            if TAKE_BACK.swap(false, Relaxed) {
                break true;
            }
            std::thread::sleep(ASK_AGAIN);
        };
        IN_DOUBT.store(false, Relaxed);
        ours.then_some(why)
    }

    /// Whether the target has committed; if it has not, it never will.
    fn ask(&mut self) -> Result<bool, String> {
        let text = |e: LinkError| e.to_string();
        let mut link =
            connect_saying(&self.w.to, &knock(self.id), &self.w.security, CONNECT).map_err(text)?;
        send(&mut link, Kind::Ask, &[]).map_err(text)?;
        match receive(&mut link, CONNECT, &mut || false)? {
            (Kind::Committed | Kind::Refused, who) if who != self.registrar => Err(
                "another host, or another user's agent, answers there than the one that took the image"
                    .to_string(),
            ),
            (Kind::Committed, _) => Ok(true),
            (Kind::Refused, _) => Ok(false),
            (Kind::No, why) => Err(String::from_utf8_lossy(&why).into_owned()),
            (kind, _) => Err(format!("it answered {kind:?}")),
        }
    }
}
