//! Where in a replay's history something happened: exact, and the same in every replay of the log.
//!
//! Between two departures from the kernel one thread runs guest code, alone and without input. So a point is named by the
//! departure before it and by how to go on from there: so many instructions, or so many arrivals at an address. The first is
//! known only where every instruction was stepped; the second costs nothing in a run at full speed.

use ftl_core::log::Wire;
use std::collections::BTreeMap;

/// How to go on from a departure, or from where the leg before ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Leg {
    /// So many instructions, iterations of a string instruction counted each.
    Step(u64),
    /// To this program address, after at least one instruction, so many times.
    Arrive(u64, u64),
    /// To the next kernel entry, in which the kernel has done nothing yet.
    Entry,
    /// To the first point with these hashes of registers and of memory: where a Ctrl-C found a computing guest. Any equal
    /// state is as good, as what follows depends on nothing else (PROTOCOL §5).
    Like(u64, u64),
}

/// A point of a replay.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Kernel entries before it.
    pub entries: u64,
    /// Departures since the last of them; 0: in the kernel.
    pub departures: u64,
    /// The way from the last departure.
    pub legs: Vec<Leg>,
}

impl Place {
    /// The end of a log that ends while nothing can run, after so many entries: behind all other places.
    pub fn end(entries: u64) -> Place {
        Place {
            entries,
            departures: u64::MAX,
            legs: Vec::new(),
        }
    }
}

impl Wire for Leg {
    fn put(&self, out: &mut Vec<u8>) {
        let (kind, a, b) = match self {
            Leg::Step(n) => (0u8, *n, 0),
            Leg::Arrive(at, n) => (1, *at, *n),
            Leg::Entry => (2, 0, 0),
            Leg::Like(regs, memory) => (3, *regs, *memory),
        };
        (kind, a, b).put(out);
    }
    fn take(src: &mut &[u8]) -> Option<Leg> {
        let (kind, a, b): (u8, u64, u64) = Wire::take(src)?;
        Some(match kind {
            0 => Leg::Step(a),
            1 => Leg::Arrive(a, b),
            2 => Leg::Entry,
            3 => Leg::Like(a, b),
            _ => return None,
        })
    }
}

impl Wire for Place {
    fn put(&self, out: &mut Vec<u8>) {
        (self.entries, self.departures, self.legs.len()).put(out);
        for leg in &self.legs {
            leg.put(out);
        }
    }
    fn take(src: &mut &[u8]) -> Option<Place> {
        let (entries, departures, n): (u64, u64, usize) = Wire::take(src)?;
        let legs = (0..n).map(|_| Leg::take(src)).collect::<Option<Vec<Leg>>>()?;
        Some(Place {
            entries,
            departures,
            legs,
        })
    }
}

/// Adds a leg, as one with the last if that is of its kind.
fn add(legs: &mut Vec<Leg>, leg: Leg) {
    match (legs.last_mut(), &leg) {
        (Some(Leg::Step(n)), Leg::Step(m)) => *n += m,
        (Some(Leg::Arrive(at, n)), Leg::Arrive(to, m)) if at == to => *n += m,
        _ => legs.push(leg),
    }
}

/// Keeps the place while a replay goes on.
#[derive(Default, Debug)]
pub struct Track {
    entries: u64,
    departures: u64,
    /// The way to the last point that was named, if instructions are not counted.
    base: Vec<Leg>,
    /// Instructions since the departure, if all of them were stepped.
    counted: Option<u64>,
    /// Arrivals at watched addresses since `base`.
    met: BTreeMap<u64, u64>,
}

impl Track {
    /// The image has made so many entries.
    pub fn at(&mut self, entries: u64) {
        if entries != self.entries {
            self.entries = entries;
            self.departures = 0;
        }
        self.base.clear();
        self.counted = None;
        self.met.clear();
    }

    /// Guest code is about to run, and that is the image's own doing.
    pub fn departs(&mut self, entries: u64) {
        self.at(entries);
        self.departures += 1;
        self.counted = Some(0);
    }

    /// Entries and departures.
    pub fn time(&self) -> (u64, u64) {
        (self.entries, self.departures)
    }

    /// One instruction was stepped: as one of a row of them (`walking`), or between two runs at full speed.
    pub fn stepped(&mut self, walking: bool) {
        match &mut self.counted {
            Some(n) => *n += 1,
            None if walking => {
                self.met.clear();
                add(&mut self.base, Leg::Step(1));
            }
            None => {}
        }
    }

    /// The guest has come to an address at which it is stopped each time.
    pub fn meets(&mut self, at: u64) {
        if self.counted.is_none() {
            *self.met.entry(at).or_default() += 1;
        }
    }

    /// The guest goes on at full speed.
    pub fn runs(&mut self) {
        if let Some(n) = self.counted.take() {
            self.base.clear();
            if n > 0 {
                self.base.push(Leg::Step(n));
            }
            self.met.clear();
        }
    }

    /// This point, at program address `at`.
    pub fn place(&self, at: u64) -> Place {
        let legs = match self.counted {
            Some(0) => Vec::new(),
            Some(n) => vec![Leg::Step(n)],
            None => {
                let mut legs = self.base.clone();
                if let Some(n) = self.met.get(&at) {
                    add(&mut legs, Leg::Arrive(at, *n));
                }
                legs
            }
        };
        Place {
            entries: self.entries,
            departures: self.departures,
            legs,
        }
    }

    /// The next entry.
    pub fn entry(&self) -> Place {
        Place {
            entries: self.entries,
            departures: self.departures,
            legs: vec![Leg::Entry],
        }
    }

    /// What comes is told from this point, which has a name: legs of a [`Place`].
    pub fn named(&mut self, legs: &[Leg]) {
        if self.counted.is_none() {
            self.base = legs.to_vec();
            self.met.clear();
        }
    }
}

/// Follows a replay to a place.
#[derive(Clone, Debug)]
pub struct Way {
    to: Place,
    /// Leg that is being gone, and how much of it.
    leg: usize,
    gone: u64,
    here: bool,
}

/// How far a [`Way`] has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Not there yet.
    On,
    /// A leg has ended that is not the last.
    Leg,
    /// There.
    Done,
    /// The replay has passed the place: it is not the run in which it was named.
    Lost,
}

impl Way {
    /// The way to a place, from anywhere before its departure.
    pub fn to(place: Place) -> Way {
        Way {
            to: place,
            leg: 0,
            gone: 0,
            here: false,
        }
    }

    /// Legs behind us.
    pub fn behind(&self) -> &[Leg] {
        &self.to.legs[..self.leg]
    }

    /// The replay is at a departure, or in the kernel after an entry.
    pub fn at(&mut self, time: (u64, u64)) -> Progress {
        let there = (self.to.entries, self.to.departures);
        (self.leg, self.gone, self.here) = (0, 0, time == there);
        match () {
            () if time > there => Progress::Lost,
            () if self.here && self.to.legs.is_empty() => Progress::Done,
            () => Progress::On,
        }
    }

    fn now(&self) -> Option<&Leg> {
        self.here.then(|| self.to.legs.get(self.leg)).flatten()
    }

    /// Every instruction is to be stepped here.
    pub fn steps(&self) -> bool {
        matches!(self.now(), Some(Leg::Step(_) | Leg::Like(..)))
    }

    /// Every arrival at this address is to be seen.
    pub fn address(&self) -> Option<u64> {
        match self.now() {
            Some(Leg::Arrive(at, _)) => Some(*at),
            _ => None,
        }
    }

    /// Hashes of the state that is looked for.
    pub fn like(&self) -> Option<(u64, u64)> {
        match self.now() {
            Some(Leg::Like(regs, memory)) => Some((*regs, *memory)),
            _ => None,
        }
    }

    fn gone(&mut self, of: u64) -> Progress {
        self.gone += 1;
        if self.gone < of {
            return Progress::On;
        }
        (self.leg, self.gone) = (self.leg + 1, 0);
        match self.leg == self.to.legs.len() {
            true => Progress::Done,
            false => Progress::Leg,
        }
    }

    /// An instruction was stepped.
    pub fn stepped(&mut self) -> Progress {
        match self.now() {
            Some(Leg::Step(n)) => {
                let n = *n;
                self.gone(n)
            }
            _ => Progress::On,
        }
    }

    /// The guest has come to a program address, by at least one instruction.
    pub fn meets(&mut self, at: u64) -> Progress {
        match self.now() {
            Some(Leg::Arrive(to, n)) if *to == at => {
                let n = *n;
                self.gone(n)
            }
            _ => Progress::On,
        }
    }

    /// The state that was looked for has been found.
    pub fn found(&mut self) -> Progress {
        self.gone(1)
    }

    /// The kernel was entered.
    pub fn enters(&mut self) -> Progress {
        match self.now() {
            Some(Leg::Entry) => self.gone(1),
            _ => Progress::On,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place = Place {
            entries: 7,
            departures: 2,
            legs: vec![
                Leg::Arrive(0x40_1000, 3),
                Leg::Step(9),
                Leg::Like(1, u64::MAX),
                Leg::Entry,
            ],
        };
        let mut bytes = Vec::new();
        place.put(&mut bytes);
        assert_eq!(Place::take(&mut bytes.as_slice()), Some(place));
        assert_eq!(Place::take(&mut &bytes[..4]), None);
    }

    /// A guest that runs through these addresses; what is stopped at is met at full speed.
    struct Guest {
        path: Vec<u64>,
        at: usize,
    }

    impl Guest {
        /// The next arrival at one of these.
        fn run(&mut self, stops: &[u64]) -> u64 {
            loop {
                self.at += 1;
                if stops.contains(&self.path[self.at]) {
                    return self.path[self.at];
                }
            }
        }
    }

    /// Goes the way from the departure; index in the path.
    fn go(place: &Place, path: &[u64]) -> usize {
        let mut way = Way::to(place.clone());
        let mut progress = way.at((place.entries, place.departures));
        let mut at = 0;
        while progress != Progress::Done {
            at += 1;
            progress = match way.stepped() {
                Progress::On => way.meets(path[at]),
                p => p,
            };
            assert_ne!(progress, Progress::Lost);
        }
        at
    }

    #[test]
    fn a_way_leads_to_where_its_place_was_named() {
        let path = [1, 2, 3, 2, 3, 2, 4, 5, 2, 3, 6, 3, 6];
        let mut t = Track::default();
        t.departs(5);
        let mut g = Guest {
            path: path.to_vec(),
            at: 0,
        };
        assert_eq!(go(&t.place(1), &path), 0);
        // At full speed to the third 2, with a stop at each; then steps; then a stop at 3, and the second 6 after it.
        t.runs();
        for _ in 0..3 {
            let at = g.run(&[2]);
            t.meets(at);
            let here = t.place(at);
            assert_eq!(go(&here, &path), g.at);
            t.named(&here.legs);
        }
        for _ in 0..2 {
            g.at += 1;
            t.stepped(true);
            assert_eq!(go(&t.place(path[g.at]), &path), g.at);
        }
        let at = g.run(&[3]);
        t.meets(at);
        let here = t.place(at);
        t.named(&here.legs);
        for _ in 0..2 {
            let at = g.run(&[6]);
            t.meets(at);
        }
        assert_eq!(go(&t.place(6), &path), 12);
        // Another departure forgets the way.
        t.departs(5);
        assert_eq!(
            t.place(9),
            Place {
                entries: 5,
                departures: 2,
                legs: Vec::new()
            }
        );
        t.stepped(false);
        t.runs();
        assert_eq!(t.place(9).legs, [Leg::Step(1)]);
    }

    #[test]
    fn a_place_that_was_passed_is_lost() {
        let mut way = Way::to(Place {
            entries: 3,
            departures: 1,
            legs: vec![Leg::Entry],
        });
        assert_eq!(way.at((2, 4)), Progress::On);
        assert_eq!(way.enters(), Progress::On);
        assert_eq!(way.at((3, 1)), Progress::On);
        assert_eq!(way.enters(), Progress::Done);
        assert_eq!(way.at((3, 2)), Progress::Lost);
    }
}
