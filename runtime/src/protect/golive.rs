//! From replay to live (PROTOCOL §3, takeover): the image has run past the horizon or starved; from here on
//! the world answers again, and a new epoch's log begins.

use super::guard::Guard;
use super::standby::Meta;
use super::{Commit, Intro, image_time, note_phase};
use crate::alloc::{self, Side};
use crate::door::record::Recorder;
use crate::door::{Doors, Mode};
use crate::link::Security;
use crate::sys;
use crate::talk::{self, Level};
use ftl_core::door::Input;
use ftl_core::platform::Handle;
use ftl_core::replica::gate::Gate;
use ftl_core::replica::{Class, Mark, Time, Won};
use std::collections::BTreeMap;

/// What a replay that ends in going live knows; in the host arena.
pub struct Takeover {
    won: Won,
    gate: Gate,
    intro: Intro,
    arbiter: super::arbiter::Client,
    /// Host interface for the image's address.
    pub interface: Option<String>,
    security: Security,
    roots: Option<super::roots::Client>,
    /// Files of this host that the standby held open for the replay.
    files: Vec<i32>,
    /// Streams, and how much the image has asked of them.
    pub wants: BTreeMap<Handle, usize>,
    /// Since when the guest runs behind the log's end without an entry, ns.
    stuck_since: Option<u64>,
    begun: u64,
}

impl Takeover {
    /// From what the standby process left.
    pub fn new(meta: &mut Meta) -> Option<Takeover> {
        let mut won = Won::decode(&meta.won)?;
        meta.intro.policy.apply(&mut won.cfg);
        Some(Takeover {
            gate: won.gate(),
            won,
            intro: meta.intro.clone(),
            interface: (!meta.interface.is_empty()).then(|| meta.interface.clone()),
            arbiter: super::arbiter::Client::new(meta.arbiter.take()?, meta.intro.image),
            security: super::security((!meta.tls_dir.is_empty()).then(|| meta.tls_dir.as_ref())).ok()?,
            roots: meta
                .roots
                .take()
                .map(|fd| super::roots::Client::new(fd, meta.intro.image)),
            files: meta.files.iter().map(|(_, fd)| *fd).collect(),
            wants: BTreeMap::new(),
            stuck_since: None,
            begun: sys::clock_ns(libc::CLOCK_MONOTONIC),
        })
    }

    /// The horizon that was promised, or the exact place of a switchover.
    fn until(&self) -> Time {
        self.won.last.unwrap_or(self.won.h)
    }

    /// The replay may end here: nothing before this place can have been promised otherwise.
    pub fn past(&self, at: Time) -> bool {
        let h = self.until();
        match self.won.last {
            Some(last) => at.e >= last.e && at.v >= last.v,
            None => at.e > h.e || at.v > h.v,
        }
    }

    /// The watchdog met the guest behind the log's end: true if it may be cut there. A slice that the old primary
    /// may have gone on with is given as long as a failed primary is waited for.
    pub fn stuck(&mut self, at: Time) -> bool {
        let now = sys::clock_ns(libc::CLOCK_MONOTONIC);
        let since = *self.stuck_since.get_or_insert(now);
        self.past(at) || now - since > self.won.cfg.detect_max_ns
    }

    /// The guest has entered.
    pub fn moved(&mut self) {
        self.stuck_since = None;
    }

    /// A deadline that the old primary may have promised to meet in silence.
    pub fn within(&self, v: u64) -> bool {
        v <= self.until().v
    }

    /// An output of the replay.
    pub fn output(&mut self, class: Class, bytes: &[u8]) {
        let now = sys::clock_ns(libc::CLOCK_MONOTONIC);
        let mark = Mark {
            // It depends on nothing that is not held here.
            position: self.won.held,
            at: image_time(),
        };
        self.gate.push(
            now,
            ftl_core::replica::gate::Mode::Shut,
            mark,
            class,
            bytes.to_vec(),
        );
    }
}

impl Doors {
    /// True if the replay has nothing more and goes on live at the end.
    pub fn starved(&mut self) -> bool {
        match &mut self.mode {
            Mode::Replay(r) => self.takeover.is_some() && r.exhausted(),
            _ => false,
        }
    }

    /// Goes live, if this is a takeover whose log has nothing more.
    pub fn live_if_starved(&mut self) -> bool {
        let starved = self.starved();
        if starved {
            self.go_live();
        }
        starved
    }

    /// From here on the world answers.
    pub fn go_live(&mut self) {
        let _side = alloc::enter(Side::Host);
        let Some(t) = self.takeover.take() else { return };
        let Takeover {
            won,
            gate,
            intro,
            arbiter,
            interface,
            security,
            roots,
            files,
            wants,
            begun,
            ..
        } = *t;
        for fd in files {
            // SAFETY: our own descriptor, of which nobody else knows.
            let _ = unsafe { crate::sys::sys!(libc::SYS_close, fd) };
        }
        let Mode::Replay(r) = &self.mode else { return };
        let at = image_time();
        let from = at.v.max(won.h.v);
        self.live.clock.go_on_from(from);
        // SAFETY: the arena is mapped; the page is made of Cells.
        let clock = unsafe { &*(ftl_core::layout::CLOCK_ADDR as *const ftl_core::clock::Clock) };
        let real = sys::clock_ns(libc::CLOCK_REALTIME);
        clock.real_offset.set(real.wrapping_sub(from));
        let mut recorder = Recorder::shipping(won.cfg.image, won.held, &r.place());
        recorder.predict = intro.policy.commit != Commit::LogAll;
        self.mode = Mode::Record(Box::new(recorder));
        alloc::inputs_on_host(true);
        self.live.watch_link(arbiter.fd());
        let primary = won.into_primary(at, gate);
        note_phase(primary.phase(), primary.epoch());
        self.guard = Some(Box::new(Guard::new(
            primary, None, intro, arbiter, security, roots,
        )));
        // Streams of this host: who waits for room looks again, who waits for input is heard.
        for h in 0..3 {
            self.live.push(Input::Writable(Handle(h)));
        }
        for (h, max) in wants {
            self.live.stream_want(h, max);
        }
        self.just_live = true;
        if let (Some(name), Some(net)) = (
            &interface,
            crate::snap::root().and_then(|k| k.config.net.as_ref()),
        ) && let Err((_, why)) = crate::run::open_nic(&mut self.live, name, net)
        {
            crate::run::fail_stop(&format!("going live: {why}"));
        }
        // SAFETY: the page is mapped in every guest process.
        unsafe { crate::vcpu::get() }.tsc_limit = 0;
        let ns = sys::clock_ns(libc::CLOCK_MONOTONIC) - begun;
        super::status::set(super::status::Figure::TakeoverNs, ns);
        let us = ns / 1000;
        talk::say(
            Level::Info,
            &format!("live after {us} us of replay"),
            &[("replay_us", i128::from(us).into())],
        );
    }
}
