//! Searches of the agent's: for the last stop before a limit, and for where they must step.

use super::super::place::{Leg, Place, Progress, Way};
use super::super::wire::{self, Limit, Stop, Why};
use super::{Agent, Arrival, Doing, Point, Watch, told};
use crate::dirty::Tracker;
use crate::run::Machine;
use ftl_abi::task::Task;
use ftl_core::layout::{page_down, page_up};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// Where a search ends.
pub(super) enum Until {
    Entries(u64),
    Place(Way),
}

/// A search for the last stop before a limit.
pub(super) struct Search {
    pub(super) from: u64,
    pub(super) until: Until,
    pub(super) step: Option<u64>,
    /// `from` is behind us.
    pub(super) on: bool,
    /// What is watched has been read since.
    pub(super) based: bool,
    /// The point before this one.
    pub(super) here: Option<Stop>,
    /// The last stop, and the one before it.
    pub(super) last: Option<Stop>,
    pub(super) before: Option<Stop>,
    /// Departures after which watched memory may change; none: all.
    pub(super) only: BTreeSet<(u64, u64)>,
    /// The way to the first point that counts, instead of `from`.
    pub(super) since: Option<Way>,
}

/// Departures told at most: the last ones.
pub(super) const TRACED: usize = 1 << 18;

/// Finds out between which entries watched memory may change, at full speed.
pub(super) struct Trace {
    pub(super) from: u64,
    pub(super) until: Until,
    /// Of the followed process; none if the host has no such thing: then each may.
    pub(super) tracker: Option<Tracker>,
    /// Departure after which guest code runs.
    pub(super) open: Option<(u64, u64)>,
    /// The one before.
    pub(super) last: Option<(u64, u64)>,
    pub(super) found: VecDeque<(u64, u64)>,
}

impl Trace {
    /// Of what happens after so many entries.
    pub(super) fn new(from: u64, until: Until) -> Trace {
        Trace {
            from,
            until,
            tracker: None,
            open: None,
            last: None,
            found: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, departure: Option<(u64, u64)>) {
        let Some(departure) = departure.filter(|d| d.0 >= self.from && self.found.back() != Some(d)) else {
            return;
        };
        if self.found.len() == TRACED {
            self.found.pop_front();
        }
        self.found.push_back(departure);
    }
}

/// The pages of some memory.
pub(super) fn pages(w: &Watch) -> (u64, u64) {
    let end = w.addr.saturating_add(w.was.len() as u64);
    (page_down(w.addr), page_up(end).unwrap_or(u64::MAX))
}

impl Search {
    /// For the last stop after so many entries.
    pub(super) fn new(from: u64, until: Until) -> Search {
        Search {
            from,
            until,
            step: None,
            on: false,
            based: false,
            here: None,
            last: None,
            before: None,
            only: BTreeSet::new(),
            since: None,
        }
    }

    pub(super) fn note(&mut self, stop: Stop) {
        match &mut self.last {
            Some(last) if last.place == stop.place => *last = stop,
            _ => self.before = self.last.replace(stop),
        }
    }
}

pub(super) fn until(limit: Limit) -> Until {
    match limit {
        Limit::Entries(e) => Until::Entries(e),
        Limit::Place(p) => Until::Place(Way::to(p)),
    }
}

impl Agent {
    /// A search has come to this point.
    pub(super) fn search(
        &mut self,
        m: &mut Machine,
        task: &Rc<Task>,
        point: &Point,
        (visible, progress, place): (bool, Progress, Place),
    ) {
        let entries = self.track.time().0;
        let departed = self.arrival == Arrival::Kernel;
        if let Doing::Search(s) = &mut self.doing {
            s.on |= departed && s.since.is_none() && entries >= s.from;
        }
        if !visible {
            return;
        }
        let changed = self.changed();
        let is_break = self.breaks.contains(&point.at);
        let Doing::Search(s) = &mut self.doing else { return };
        // What was different before the first point that counts is no change.
        let changed = changed.filter(|_| s.based);
        s.based |= s.on;
        if s.on
            && let (Some(at), Some(from)) = (changed, s.here.clone())
        {
            s.note(Stop {
                why: Why::Watch(at),
                ..from
            });
        }
        let done = match &s.until {
            Until::Entries(e) => entries >= *e,
            Until::Place(_) => progress == Progress::Done,
        };
        if done {
            return self.there(m, task, place);
        }
        if !s.on {
            return;
        }
        let here = told(m, Why::Step, task, place);
        if is_break {
            s.note(Stop {
                why: Why::Break,
                ..here.clone()
            });
        } else if s.step == Some(point.tid) {
            s.note(here.clone());
        }
        s.here = Some(here);
    }

    /// Guest code has run, and the kernel does what it is asked.
    pub(super) fn close(&mut self) {
        // What comes next is the kernel's doing.
        self.changed();
        let Doing::Trace(t) = &mut self.doing else { return };
        let Some(open) = t.open.take() else { return };
        let mut written = t.tracker.is_none();
        if let Some(tracker) = &t.tracker {
            for w in &self.watches {
                let (start, end) = pages(w);
                tracker.written(start, end, true, |_, _| written = true);
            }
        }
        if written {
            t.add(Some(open));
        }
        t.last = Some(open);
    }

    /// Guest code is about to run, whose writes are to be noticed.
    pub(super) fn trace(&mut self, m: &mut Machine, task: &Rc<Task>, progress: Progress, place: Place) {
        let time = self.track.time();
        let changed = self.changed().is_some();
        let Doing::Trace(t) = &mut self.doing else { return };
        if changed {
            // In the kernel, so before this departure.
            let last = t.last;
            t.add(last);
        }
        t.open = Some(time);
        let done = match &t.until {
            Until::Entries(e) => time.0 >= *e,
            Until::Place(_) => progress == Progress::Done,
        };
        if done {
            return self.there(m, task, place);
        }
        if t.tracker.is_none() {
            t.tracker = Tracker::new().ok();
        }
        if let Some(tracker) = &t.tracker {
            for w in &self.watches {
                let (start, end) = pages(w);
                tracker.protect(start, end, |_, _| {});
            }
        }
    }

    /// A place that was gone to, or the end of a search.
    pub(super) fn there(&mut self, m: &mut Machine, task: &Rc<Task>, place: Place) {
        if let Doing::Trace(t) = &mut self.doing {
            // The way to the limit is part of what is searched.
            let last = t.open.or(t.last);
            t.add(last);
            let mut out = Vec::new();
            let list: Vec<(u64, u64)> = t.found.iter().copied().collect();
            wire::put_pairs(&list, &mut out);
            let stop = told(m, Why::Nothing, task, place);
            self.say(&stop);
            if wire::send(&mut self.server, &out).is_err() {
                crate::run::die(crate::run::EXIT_FAILED);
            }
            return self.serve();
        }
        let Doing::Search(s) = &mut self.doing else {
            return self.stop(m, Why::There, task, place);
        };
        let mut stop = s.last.take();
        let here = told(m, Why::Nothing, task, place);
        // An instruction that faulted was not executed: the point before it is the same to the eye.
        let in_kernel = here.place.departures == 0 || here.place.legs == [Leg::Entry];
        let fault = in_kernel && s.step.is_some();
        if fault
            && stop
                .as_ref()
                .is_some_and(|f| f.pc == here.pc && f.why == Why::Step)
        {
            stop = s.before.take();
        }
        let stop = stop.unwrap_or(here);
        self.say(&stop);
        self.serve();
    }
}
