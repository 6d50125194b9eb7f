//! Stories of a primary with a perfect or a dead peer. What faults do to both is the model's matter.

use super::*;
use crate::replica::backup;
use crate::replica::duo::{B, Duo, MS, P};

const TCP: Class = Class::Tcp { key: None };

#[test]
fn nothing_leaves_before_the_first_backup_unless_asked_to() {
    let mut d = Duo::new(|_| {});
    assert_eq!(d.p.phase(), Phase::Solo);
    d.output(TCP);
    assert_eq!(d.left, [] as [u64; 0], "hold until synced is the default");
    d.connect();
    d.base(1, 0);
    assert_eq!((d.p.phase(), d.left.as_slice()), (Phase::Prot, [1].as_slice()));
    assert_eq!(
        d.arbiter.value().map(|r| (r.epoch, r.set.clone())),
        Some((2, vec![P, B]))
    );
    let mut d = Duo::new(|c| c.unprotected = Unprotected::Run);
    d.output(TCP);
    assert_eq!(d.left, [1]);
    assert!(!d.p.protected());
}

#[test]
fn pre_copy_is_ungated_and_its_last_round_is_not() {
    let mut d = Duo::new(|c| c.unprotected = Unprotected::Run);
    d.connect();
    assert!(d.did_p.contains(&Action::StartBase));
    d.primary(Input::Base(Base::Begin { snap: 1, parent: 0 }));
    d.run(true);
    d.output(TCP);
    assert_eq!(d.left, [1]);
    d.primary(Input::Base(Base::LastRound));
    d.run(true);
    d.output(TCP);
    assert_eq!(d.left, [1], "no ack yet");
    let mark = Mark {
        position: 1,
        at: d.at,
    };
    let marks = d.p.marks();
    d.primary(Input::Base(Base::End {
        mark,
        marks,
        manifest: vec![],
    }));
    assert_eq!((d.p.phase(), d.left.as_slice()), (Phase::Prot, [1, 2].as_slice()));
}

#[test]
fn predicted_outputs_leave_at_once_and_recorded_ones_wait_for_their_ack() {
    let mut d = Duo::synced(|_| {});
    d.open = (false, false);
    d.run(false);
    d.output(TCP);
    assert_eq!(d.left, [1], "within the horizon");
    d.run(true);
    d.output(TCP);
    assert_eq!(d.left, [1]);
    d.open = (true, true);
    d.pump();
    assert_eq!(d.left, [1, 2]);
    d.open = (false, false);
    for _ in 0..300 {
        d.run(false);
        d.output(TCP);
    }
    let stalled = 302 - d.left.len();
    assert!(stalled > 90, "2 ms of horizon are 200 entries: {stalled}");
    d.open = (true, true);
    d.pump();
    assert_eq!(d.left.len(), 302, "the renewal was sent without a tick");
    let s = d.p.gate().stats();
    assert!(s.zero_wait > 190 && s.released == 302, "{s:?}");
}

#[test]
fn a_silent_backup_is_taken_out_before_anything_leaves() {
    let mut d = Duo::synced(|_| {});
    d.open = (false, false);
    d.run(true);
    d.output(TCP);
    d.mute = Some(false);
    d.pass(60, true, false);
    assert_eq!(
        (d.p.phase(), d.left.len()),
        (Phase::Hold, 0),
        "the arbiter is silent"
    );
    d.mute = None;
    d.pass(60, true, false);
    assert_eq!((d.p.phase(), d.left.as_slice()), (Phase::Solo, [1].as_slice()));
    assert_eq!(d.arbiter.value().map(|r| r.set.clone()), Some(vec![P]));
    d.open = (true, true);
    d.pump();
    assert_eq!(d.b.phase(), backup::Phase::Lost, "it hears that it is out");
}

#[test]
fn acks_that_resume_do_not_end_a_hold_without_the_arbiter() {
    let mut d = Duo::synced(|_| {});
    d.open = (true, false);
    d.mute = Some(false);
    d.pass(60, true, true);
    assert_eq!(d.p.phase(), Phase::Hold);
    d.open = (true, true);
    d.pass(10, true, true);
    assert_eq!(d.p.phase(), Phase::Hold, "the lost swap may still happen");
    d.mute = None;
    d.pass(60, true, true);
    assert_eq!(d.p.phase(), Phase::Prot);
    let r = d.arbiter.value().cloned().expect("set");
    assert_eq!((r.epoch, r.set), (3, vec![P, B]), "so the revision was moved");
    d.run(true);
    d.output(TCP);
    assert_eq!(d.left, [1]);
}

#[test]
fn a_swap_that_happened_unanswered_is_found_by_the_read() {
    let mut d = Duo::synced(|_| {});
    d.open = (false, false);
    d.mute = Some(true);
    d.pass(60, true, false);
    assert_eq!(d.p.phase(), Phase::Hold);
    d.mute = None;
    d.pass(60, true, false);
    assert_eq!(d.p.phase(), Phase::Solo);
    assert_eq!(d.p.epoch(), 3, "one swap, not two");
}

#[test]
fn whoever_lost_the_register_is_fenced() {
    let mut d = Duo::synced(|_| {});
    d.run(true);
    d.open = (false, false);
    d.run(true);
    d.output(TCP);
    d.pass(80, false, true);
    assert_eq!(d.b.phase(), backup::Phase::Replay);
    d.pass(80, true, false);
    assert_eq!((d.p.phase(), d.left.len()), (Phase::Fenced, 0));
    assert!(d.did_p.contains(&Action::Fenced { handover: false }));
    d.output(TCP);
    assert_eq!(d.left.len(), 0);
}

#[test]
fn a_new_link_resumes_the_session_and_sends_what_was_lost() {
    let mut d = Duo::synced(|_| {});
    d.open = (false, false);
    for _ in 0..3 {
        d.run(true);
        d.output(TCP);
    }
    d.open = (true, true);
    d.connect();
    assert_eq!((d.p.phase(), d.left.len()), (Phase::Prot, 3));
    assert_eq!(d.b.holds().map(|m| m.position), Some(3));
    // Acks lost instead.
    d.open = (true, false);
    d.run(true);
    d.output(TCP);
    assert_eq!(d.left.len(), 3);
    d.open = (true, true);
    d.connect();
    assert_eq!(d.left.len(), 4);
    assert_eq!(d.b.log().count(), 4, "nothing is kept twice");
}

#[test]
fn a_restarted_backup_is_another_one() {
    let mut d = Duo::synced(|_| {});
    d.run(true);
    let again = Member { inc: 0x2002, ..B };
    d.b = Backup::new(
        Config {
            me: again,
            ..d.b.config().clone()
        },
        d.now,
    );
    d.connect();
    assert_eq!(
        d.p.phase(),
        Phase::Solo,
        "the old incarnation left the set at once"
    );
    d.connect();
    assert_eq!(d.p.phase(), Phase::Sync);
    d.base(1, 0);
    assert_eq!(d.p.phase(), Phase::Prot);
    assert_eq!(d.arbiter.value().map(|r| r.set.clone()), Some(vec![P, again]));
}

use crate::replica::Backup;

#[test]
fn a_switchover_goes_live_exactly_where_the_primary_stopped() {
    let mut d = Duo::synced(|_| {});
    d.run(true);
    d.output(TCP);
    d.open = (false, false);
    d.primary(Input::Command(Command::Switchover));
    assert!(d.did_p.contains(&Action::Stop));
    d.run(true);
    d.output(TCP);
    d.open = (true, true);
    d.primary(Input::Stopped {
        at: d.at,
        manifest: vec![7],
    });
    let t = d.did_b.iter().find_map(|a| match a {
        backup::Action::Replay(t) => Some(t.clone()),
        _ => None,
    });
    let t = t.expect("B took over");
    assert_eq!((t.last, t.held, t.manifest), (Some(d.at), 2, vec![7]));
    d.pass(2, true, false);
    assert_eq!((d.p.phase(), d.left.as_slice()), (Phase::Fenced, [1].as_slice()));
    assert!(d.did_p.contains(&Action::Fenced { handover: true }));
}

#[test]
fn a_switchover_that_hangs_is_called_off_by_the_arbiter() {
    let mut d = Duo::synced(|_| {});
    d.primary(Input::Command(Command::Switchover));
    d.open = (false, true);
    d.primary(Input::Stopped {
        at: d.at,
        manifest: vec![],
    });
    d.pass(1100, true, false);
    assert_eq!(d.p.phase(), Phase::Solo, "B was silent");
    assert!(d.did_p.contains(&Action::Resume));
    let mut d = Duo::synced(|_| {});
    d.primary(Input::Command(Command::Switchover));
    d.pass(1100, true, true);
    assert_eq!(d.p.phase(), Phase::Prot, "the vCPU never stopped, B is there");
    assert_eq!(d.p.epoch(), 3);
}

#[test]
fn a_slow_backup_throttles_or_goes() {
    for on_slow in [OnSlow::Throttle, OnSlow::Detach] {
        let mut d = Duo::synced(|c| (c.on_slow, c.slow_bytes) = (on_slow, 1000));
        d.open = (false, true);
        for _ in 0..20 {
            d.run(true);
        }
        d.pass(1, true, false);
        if on_slow == OnSlow::Detach {
            assert_eq!(d.p.phase(), Phase::Solo);
            continue;
        }
        assert!(d.did_p.contains(&Action::Throttle(true)));
        d.open = (true, true);
        d.pump();
        assert_eq!(d.did_p.last(), Some(&Action::Throttle(false)));
    }
}

#[test]
fn an_end_that_is_committed_is_no_failover() {
    let mut d = Duo::synced(|_| {});
    d.open = (false, false);
    d.run(true);
    d.output(Class::Exit);
    d.primary(Input::Command(Command::End));
    assert!(!d.did_p.contains(&Action::Ended));
    d.open = (true, true);
    d.pass(2, true, false);
    assert_eq!(d.left, [1]);
    assert!(d.did_p.contains(&Action::Ended));
    assert_eq!(d.b.phase(), backup::Phase::Ended);
    d.pass(200, false, true);
    assert_eq!(d.b.phase(), backup::Phase::Ended);
}

#[test]
fn an_end_before_the_first_backup_needs_none() {
    for unprotected in [Unprotected::HoldUntilSynced, Unprotected::Hold] {
        let mut d = Duo::new(|c| c.unprotected = unprotected);
        d.output(TCP);
        d.output(Class::Exit);
        assert!(d.left.is_empty());
        d.primary(Input::Command(Command::End));
        d.pass(1, true, false);
        let leaves = unprotected == Unprotected::HoldUntilSynced;
        assert_eq!(d.left.len(), if leaves { 2 } else { 0 });
        assert_eq!(d.did_p.contains(&Action::Ended), leaves);
    }
}

#[test]
fn foreign_frames_change_nothing() {
    let mut d = Duo::synced(|_| {});
    d.open = (true, false);
    d.run(true);
    d.output(TCP);
    let ack = d.to_p.back().cloned().expect("ack");
    assert!(matches!(ack.body, Body::Ack { .. }));
    let wrong = [
        Frame {
            image: 9,
            ..ack.clone()
        },
        Frame {
            session: ack.session + 1,
            ..ack.clone()
        },
        Frame {
            epoch: ack.epoch - 1,
            ..ack.clone()
        },
        Frame {
            epoch: ack.epoch + 1,
            ..ack.clone()
        },
        Frame {
            from: Member { inc: 1, ..B },
            ..ack.clone()
        },
        Frame {
            from: P,
            ..ack.clone()
        },
        Frame {
            position: 99,
            ..ack.clone()
        },
        Frame {
            h: Time {
                e: u64::MAX,
                v: u64::MAX,
            },
            ..ack.clone()
        },
        Frame {
            ack: 99,
            ..ack.clone()
        },
    ];
    for f in wrong {
        d.primary(Input::Frame(f.clone()));
        assert_eq!(d.left.len(), 0, "{f:?}");
    }
    d.primary(Input::Frame(ack));
    assert_eq!(d.left, [1]);
    assert_eq!(d.now / MS, 0);
}

#[test]
fn outputs_that_wait_for_snapshots_leave_with_one_taken_after_them() {
    let mut d = Duo::synced(|c| c.commit = Commit::Snapshot);
    d.run(true);
    d.output(TCP);
    assert_eq!(
        d.left,
        Vec::<u64>::new(),
        "its records are acknowledged, no snapshot is"
    );
    d.base(2, 1);
    assert_eq!(d.left.len(), 1);
    d.output(TCP);
    d.run(true);
    d.output(TCP);
    assert_eq!(d.left.len(), 2, "the first was made where the image stood for it");
    // Nobody takes a snapshot of an image that has ended.
    d.output(Class::Exit);
    d.primary(Input::Command(Command::End));
    d.pass(20, true, true);
    assert_eq!(d.left.len(), 4);
    assert!(d.did_p.contains(&Action::Ended));
}
