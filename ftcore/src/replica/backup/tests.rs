//! Stories of a backup.

use super::*;
use crate::replica::duo::{B, Duo, P, records};
use crate::replica::frame::tests::frame;
use crate::replica::primary::{self, Base as Send};
use proptest::prelude::*;

const TCP: Class = Class::Tcp { key: None };

fn takeover(d: &Duo) -> Option<Takeover> {
    d.did_b.iter().find_map(|a| match a {
        Action::Replay(t) => Some(t.clone()),
        _ => None,
    })
}

#[test]
fn it_takes_over_what_it_acknowledged_and_runs_past_the_horizon() {
    let mut d = Duo::synced(|_| {});
    d.run(true);
    d.output(Class::Stream { stream: 1 });
    d.run(false);
    d.output(Class::Stream { stream: 1 });
    d.pass(80, false, true);
    let t = takeover(&d).expect("it took over");
    assert_eq!(
        (t.snap, t.base.position, t.held, t.last, t.epoch),
        (1, 0, 1, None, 3)
    );
    assert!(t.h.e > d.at.e && t.h.v > d.at.v, "{t:?}");
    assert_eq!(d.b.log().count(), 1);
    for e in 1..=2 {
        let at = Time { e, v: e * 10_000 };
        d.b.output(
            d.now,
            Mark { position: 1, at },
            Class::Stream { stream: 1 },
            vec![1],
        );
    }
    let at = Time {
        e: t.h.e + 1,
        v: t.h.v,
    };
    d.backup(Input::Replayed { at });
    assert_eq!(d.did_b.last(), Some(&Action::Phase(Phase::Live)));
    let mut p = d.b.into_primary().expect("live");
    assert_eq!((p.phase(), p.epoch()), (primary::Phase::Solo, 3));
    assert!(p.promised().at.covers(at), "H never falls");
    let again: Vec<_> = std::iter::from_fn(|| p.next_output(d.now)).collect();
    // The last frame that it heard told of none or one of the two.
    assert!(
        again.iter().all(|o| o.again) && again.last().is_some_and(|o| o.offset == 1),
        "{again:?}"
    );
}

#[test]
fn before_it_is_in_the_set_it_may_not_take_over() {
    let mut d = Duo::new(|_| {});
    d.connect();
    d.pass(200, false, true);
    assert_eq!(d.b.phase(), Phase::Syncing);
    // Ready, but the primary died before the swap.
    let mut d = Duo::new(|_| {});
    d.connect();
    d.mute = Some(false);
    d.base(1, 0);
    d.mute = None;
    assert_eq!((d.b.phase(), d.p.phase()), (Phase::Ready, primary::Phase::Sync));
    d.pass(200, false, true);
    assert_eq!(d.b.phase(), Phase::Ready);
    assert!(
        d.did_b
            .iter()
            .any(|a| matches!(a, Action::Say(s) if s.contains("not in the in-sync set")))
    );
}

#[test]
fn after_its_swap_was_sent_it_never_acks_again() {
    let mut d = Duo::synced(|_| {});
    d.open = (false, true);
    d.pass(30, false, true);
    d.mute = Some(false);
    d.pass(60, false, true);
    assert_eq!(d.b.phase(), Phase::Ready, "a look is no claim");
    // It sees the register, but its swap gets no answer.
    d.mute = None;
    while d.b.phase() == Phase::Ready {
        d.now += 1_000_000;
        let mut out = Vec::new();
        d.b.step(d.now, Input::Tick, &mut out);
        for a in out {
            if let Action::Ask(r) = a {
                let outcome = d.arbiter.handle(&r.ask);
                d.b.step(
                    d.now,
                    Input::Arbiter(Answer { id: r.id, outcome }),
                    &mut Vec::new(),
                );
            }
        }
    }
    assert_eq!(d.b.phase(), Phase::Claiming);
    d.open = (true, true);
    d.run(true);
    d.output(TCP);
    d.mute = Some(false);
    d.pass(300, true, true);
    assert_eq!(
        (d.b.phase(), d.left.len()),
        (Phase::Claiming, 0),
        "nobody decides"
    );
    d.mute = None;
    d.pass(300, true, true);
    let won = d.arbiter.value().map(|r| r.primary);
    assert!(
        won == Some(P) && d.b.phase() == Phase::Lost
            || won == Some(B) && d.p.phase() == primary::Phase::Fenced
    );
}

#[test]
fn a_late_snapshot_cuts_the_log_only_when_it_is_in_place() {
    let mut d = Duo::synced(|_| {});
    for _ in 0..3 {
        d.run(true);
    }
    assert_eq!(d.b.log().count(), 3);
    d.primary(primary::Input::Base(Send::Begin { snap: 2, parent: 1 }));
    d.run(true);
    assert_eq!(d.b.log().count(), 4);
    let mark = Mark {
        position: 3,
        at: d.at,
    };
    let end = Send::End {
        mark,
        marks: d.p.marks(),
        manifest: vec![],
    };
    d.primary(primary::Input::Base(end));
    assert!(
        d.did_p
            .contains(&primary::Action::Applied { snap: 2, position: 3 })
    );
    assert_eq!(d.b.log().count(), 1);
    d.base(3, 1);
    assert!(
        !d.did_p
            .contains(&primary::Action::Applied { snap: 3, position: 4 }),
        "its parent is not in place"
    );
}

#[test]
fn a_link_that_breaks_in_a_snapshot_voids_it() {
    let mut d = Duo::synced(|_| {});
    d.run(true);
    d.primary(primary::Input::Base(Send::Begin { snap: 2, parent: 1 }));
    d.primary(primary::Input::Base(Send::Chunk(vec![1])));
    d.connect();
    assert!(d.did_p.contains(&primary::Action::AbortBase) && d.did_b.contains(&Action::BaseVoid));
    assert_eq!((d.p.phase(), d.b.phase()), (primary::Phase::Prot, Phase::Ready));
    d.pass(80, false, true);
    assert_eq!(
        takeover(&d).map(|t| (t.snap, t.base.position, t.held)),
        Some((1, 0, 1))
    );
}

#[test]
fn damaged_or_missing_records_close_the_link() {
    let good = records(0, 1, b"r");
    let two = records(0, 2, b"rr");
    let (other, gap) = (records(3, 1, b"r"), records(1, 1, b"r"));
    for (first, count, bytes) in [
        (0, 2, &good),
        (0, 1, &two),
        (0, 1, &other),
        (1, 1, &gap),
        (0, 0, &Vec::new()),
    ] {
        let mut d = Duo::synced(|_| {});
        let mut f = d.p.frame_for_test(Body::Records {
            count,
            bytes: bytes.clone(),
        });
        f.position = first;
        d.backup(Input::Frame(f));
        assert!(
            matches!(d.did_b.last(), Some(Action::CloseLink(_))),
            "{first} {count}"
        );
        assert_eq!(d.b.holds().map(|m| m.position), Some(0));
        // And a new link heals it.
        d.connect();
        d.run(true);
        assert_eq!(d.b.holds().map(|m| m.position), Some(1));
    }
    assert!(session::whole_frames(&[good, gap].concat(), 1, 0, 2));
}

#[test]
fn a_primary_that_forgot_the_session_does_not_shrink_it() {
    let mut d = Duo::synced(|_| {});
    d.run(true);
    let f = d.p.frame_for_test(Body::Welcome {
        version: VERSION,
        resume: false,
    });
    d.backup(Input::Frame(Frame { session: 77, ..f }));
    assert_eq!(d.b.phase(), Phase::Lost);
}

proptest! {
    /// Whatever an authenticated but mad peer says in a valid session: no panic, nothing released that was not
    /// acknowledged, no promotion.
    #[test]
    fn a_mad_peer_breaks_nothing(frames in proptest::collection::vec((frame(), any::<bool>(), 0u64..4), 0..12)) {
        let mut d = Duo::synced(|_| {});
        d.open = (false, false);
        d.run(true);
        d.output(TCP);
        // FINAL is the primary's own word that it stopped.
        let finals = frames.iter().any(|(f, valid, _)| *valid && matches!(f.body, Body::Final { .. }));
        for (f, valid, small) in frames {
            let (good_p, good_b) = (d.p.frame_for_test(Body::Heartbeat), d.b.frame(Body::Heartbeat));
            let fake = |good: Frame| Frame { body: f.body.clone(), position: if small < 2 { small } else { f.position }, ..good };
            let (to_b, to_p) = if valid { (fake(good_p), fake(good_b)) } else { (f.clone(), f.clone()) };
            d.backup(Input::Frame(to_b));
            d.backup(Input::Drained);
            let acks = matches!(to_p.body, Body::Ack { .. }) && valid;
            let left = d.left.len();
            d.primary(primary::Input::Frame(to_p));
            prop_assert!(acks || d.left.len() == left || !d.p.protected());
        }
        prop_assert!(finals || !matches!(d.b.phase(), Phase::Replay | Phase::Live));
    }
}

#[test]
fn one_that_cannot_keep_the_image_says_so_and_is_no_backup() {
    let refuse = |d: &mut Duo| {
        let why = "too little memory".to_owned();
        d.backup(Input::Refuse { why });
        d.pump();
    };
    // While it copies: the primary goes on alone.
    let mut d = Duo::new(|_| {});
    d.connect();
    refuse(&mut d);
    assert_eq!((d.b.phase(), d.p.phase()), (Phase::Lost, primary::Phase::Solo));
    let said = |a: &primary::Action| matches!(a, primary::Action::Say(s) if s.contains("too little memory"));
    assert!(d.did_p.iter().any(said));
    d.pass(200, false, true);
    assert_eq!(takeover(&d), None, "it never had all of it");
    // In sync it stays: were it to go, and the primary to die before the arbiter knows, nobody would have the image.
    let mut d = Duo::synced(|_| {});
    refuse(&mut d);
    assert_eq!((d.b.phase(), d.p.phase()), (Phase::Ready, primary::Phase::Prot));
    // Nor when it takes over.
    d.pass(80, false, true);
    assert_eq!(d.b.phase(), Phase::Replay);
    refuse(&mut d);
    assert_eq!(d.b.phase(), Phase::Replay);
}
