//! The search, and what it must and must not find.
#![allow(clippy::disallowed_macros, reason = "a test reports what it searched")]

use super::*;
// Membership only; nothing depends on the order.
#[allow(clippy::disallowed_types)]
use std::collections::HashSet;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::DefaultHasher;

/// What a search met.
#[derive(Debug, Default)]
struct Found {
    states: usize,
    steps: usize,
    /// The broken rule and the way there.
    broken: Option<(String, Vec<Event>)>,
    phases: BTreeSet<String>,
    epoch: u32,
    reigns: usize,
    /// Events carried out.
    kinds: BTreeMap<String, usize>,
    /// Not all was searched.
    cut: bool,
}

fn fingerprint(w: &World) -> u64 {
    let mut h = DefaultHasher::new();
    w.hash(&mut h);
    h.finish()
}

/// Breadth first, so that the way to a broken rule is short.
#[allow(clippy::disallowed_types)]
fn search(start: World, most: usize) -> Found {
    let mut found = Found::default();
    let mut known = HashSet::from([fingerprint(&start)]);
    // (state before, event) of each state, by its number.
    let mut from: Vec<(u32, Event)> = vec![(0, Event::Third)];
    let mut todo = VecDeque::from([(0u32, start)]);
    let way = |from: &[(u32, Event)], mut at: u32, last: Event| {
        let mut way = vec![last];
        while at != 0 {
            let (before, e) = from[at as usize];
            way.push(e);
            at = before;
        }
        way.reverse();
        way
    };
    while let Some((at, w)) = todo.pop_front() {
        found.states += 1;
        found.phases.extend(w.phases());
        found.epoch = found.epoch.max(w.epoch());
        found.reigns = found.reigns.max(w.reigns());
        for e in w.events() {
            found.steps += 1;
            let mut next = w.clone();
            let broken = next.step(e).and_then(|()| next.check()).err();
            if let Some(what) = broken {
                found.broken = Some((what, way(&from, at, e)));
                return found;
            }
            if known.insert(fingerprint(&next)) {
                if known.len() > most {
                    found.cut = true;
                    continue;
                }
                let kind: String = format!("{e:?}").chars().take_while(|c| *c != '(').collect();
                *found.kinds.entry(kind).or_default() += 1;
                todo.push_back((from.len() as u32, next));
                from.push((at, e));
            }
        }
    }
    found
}

/// "choices 2 silences 1": the rest never.
fn budget(spec: &str) -> Budget {
    let mut b = Budget::default();
    let mut words = spec.split(' ');
    while let (Some(name), Some(n)) = (words.next(), words.next()) {
        let field = match name {
            "choices" => &mut b.choices,
            "crashes" => &mut b.crashes,
            "restarts" => &mut b.restarts,
            "silences" => &mut b.silences,
            "links" => &mut b.links,
            "unknowns" => &mut b.unknowns,
            "switchovers" => &mut b.switchovers,
            "stale" => &mut b.stale,
            "thirds" => &mut b.thirds,
            _ => panic!("{name}"),
        };
        *field = n.parse().expect("a number");
    }
    b
}

type Start = fn(Budget, Option<Mutant>) -> World;

/// Node 0 was primary, its history left, it crashed, node 1 took over, and node 0 is back as another incarnation.
fn second(left: Budget, mutant: Option<Mutant>) -> World {
    let mut w = World::synced(
        Budget {
            choices: left.choices + 2,
            crashes: left.crashes + 1,
            restarts: left.restarts + 1,
            silences: left.silences + 1,
            ..left
        },
        mutant,
    );
    let mut go = |e: Event, wanted: &[&str]| {
        assert_eq!(w.step(e).and_then(|()| w.check()), Ok(()));
        let quiet = |e: &Event| {
            matches!(
                e,
                Event::Apply(_) | Event::Answer(_) | Event::Deliver(_) | Event::Release(_) | Event::Live(_)
            )
        };
        w.settle(quiet);
        assert_eq!(w.phases().as_slice(), wanted, "{e:?}");
    };
    go(Event::Choose(0, 1), &["P.Prot", "B.Ready", "down"]);
    go(Event::Crash(0), &["down", "B.Ready", "down"]);
    go(Event::Silent(1), &["down", "P.Solo", "down"]);
    go(Event::Choose(1, 0), &["down", "P.Solo", "down"]);
    go(Event::Restart(0), &["B.Syncing", "P.Sync", "down"]);
    assert_eq!(w.left, left);
    w
}

/// All states within these budgets, and no rule is broken in any. Returns what was met.
fn holds(list: &[(Start, &str)], most: usize) -> Found {
    let mut all = Found::default();
    for (start, spec) in list {
        let f = search(start(budget(spec), None), most);
        assert!(f.broken.is_none(), "{spec}: {:#?}", f.broken);
        assert!(!f.cut, "{spec}: more than {most} states");
        println!(
            "{spec}: {} states, {} steps, epoch {}, {} reigns",
            f.states, f.steps, f.epoch, f.reigns
        );
        all.states += f.states;
        all.steps += f.steps;
        all.epoch = all.epoch.max(f.epoch);
        all.reigns = all.reigns.max(f.reigns);
        all.phases.extend(f.phases);
        for (k, n) in f.kinds {
            *all.kinds.entry(k).or_default() += n;
        }
    }
    all
}

#[test]
fn the_rules_hold() {
    let all = holds(
        &[
            (World::new, "choices 1 silences 1"),
            (World::new, "choices 1 crashes 1 links 1"),
            (World::synced, "choices 2 silences 1 crashes 1"),
            (World::synced, "choices 1 silences 2 unknowns 1"),
            (World::synced, "choices 2 silences 1 links 1 crashes 1"),
            (World::synced, "choices 1 silences 1 crashes 1 restarts 1 stale 1"),
            (World::synced, "choices 2 silences 1 switchovers 1 crashes 1"),
            (World::synced, "choices 1 silences 1 switchovers 1 unknowns 1"),
            (second, "choices 2 silences 1 crashes 1"),
            (World::synced, "choices 1 silences 1 thirds 1 links 1"),
            (World::synced, "choices 1 silences 2 thirds 1"),
        ],
        400_000,
    );
    // Nothing is proved about what was not met.
    let phases: Vec<&str> = all.phases.iter().map(String::as_str).collect();
    let expected = [
        "B.Claiming",
        "B.Empty",
        "B.Lost",
        "B.Ready",
        "B.Replay",
        "B.Syncing",
        "P.Fenced",
        "P.Handover",
        "P.Hold",
        "P.Prot",
        "P.Solo",
        "P.Sync",
        "down",
    ];
    assert_eq!(phases, expected);
    assert_eq!(all.kinds.len(), 17, "{:?}", all.kinds);
    assert_eq!((all.reigns, all.epoch), (3, 5), "two takeovers in a row");
    println!("{} states, {} steps", all.states, all.steps);
}

/// Larger budgets: minutes, in release mode. `cargo test --release -p ftl-core -- --ignored model`
#[test]
#[ignore = "takes minutes: ci/test --full runs it"]
fn the_rules_hold_with_more() {
    holds(
        &[
            (World::new, "choices 2 silences 1 links 1 crashes 1"),
            (World::synced, "choices 3 silences 1 crashes 1"),
            (World::new, "choices 2 silences 1 unknowns 1 crashes 1"),
            (World::synced, "choices 2 silences 2 crashes 1 unknowns 1"),
            (World::synced, "choices 2 silences 2 links 1 crashes 1"),
            (World::synced, "choices 2 silences 2 crashes 1 restarts 1"),
            (
                World::synced,
                "choices 2 silences 1 switchovers 1 unknowns 1 crashes 1",
            ),
            (second, "choices 2 silences 1 crashes 1 unknowns 1"),
            (second, "choices 2 silences 2 crashes 1"),
            (second, "choices 2 silences 1 switchovers 1 crashes 1"),
            (World::synced, "choices 2 silences 2 thirds 1 crashes 1"),
            (World::synced, "choices 2 silences 1 thirds 1 links 1 crashes 1"),
        ],
        8_000_000,
    );
}

/// The model can fail: each rule that is left out is noticed.
#[test]
fn every_mutant_is_found() {
    let list: [(Mutant, Start, &str); 9] = [
        (Mutant::DetachBeforeCas, World::synced, "choices 1 silences 1"),
        (Mutant::JoinBeforeGate, World::new, "choices 1"),
        (
            Mutant::HostsNotIncarnations,
            World::synced,
            "choices 1 silences 1 restarts 1 crashes 1",
        ),
        (Mutant::PromoteWithoutCas, World::synced, "choices 1 silences 1"),
        (Mutant::GateWithoutHorizon, World::synced, "choices 3 silences 1"),
        (Mutant::AckAfterCas, World::synced, "choices 1 silences 1"),
        (
            Mutant::AckOfAnyone,
            World::synced,
            "choices 2 restarts 1 crashes 1 stale 1 links 1",
        ),
        (
            Mutant::KeepFinal,
            World::synced,
            "choices 1 silences 1 switchovers 1 unknowns 1",
        ),
        (
            Mutant::ForgetUnknown,
            World::synced,
            "choices 1 silences 1 unknowns 1",
        ),
    ];
    for (mutant, start, spec) in list {
        assert!(
            search(start(budget(spec), None), 400_000).broken.is_none(),
            "{spec}"
        );
        let f = search(start(budget(spec), Some(mutant)), 400_000);
        let (what, way) = f
            .broken
            .unwrap_or_else(|| panic!("{mutant:?} with {spec}: not noticed in {} states", f.states));
        println!("{mutant:?}: {what}, by {way:?}");
    }
}
