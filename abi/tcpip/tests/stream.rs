//! Streams between two stacks over good and bad links.

mod sim;
use ftl_tcpip::tcp::{Broken, State};
use sim::*;

#[test]
fn bytes_both_ways_on_a_clean_link() {
    for offload in [0, 65_000] {
        let mut s = Sim::new(1, Link::CLEAN, offload);
        let (a, b) = s.connected();
        let took = transfer(&mut s, 0, a, b, 3_000_000, 20_000 * MS);
        assert!(took < 1000 * MS, "{} ms", took / MS);
        transfer(&mut s, 1, b, a, 3_000_000, 20_000 * MS);
    }
}

#[test]
fn all_arrives_over_a_bad_link() {
    for seed in 1..40 {
        let link = Link {
            loss: 10 + seed * 2,
            twice: 20,
            late: 50,
            delay_ns: 500_000,
        };
        let mut s = Sim::new(seed, link, if seed % 2 == 0 { 0 } else { 65_000 });
        let (a, b) = s.connected();
        transfer(&mut s, 0, a, b, 400_000, 600_000 * MS);
        transfer(&mut s, 1, b, a, 100_000, 600_000 * MS);
        let now = s.now;
        s.ends[0].finish(a, now);
        s.ends[1].finish(b, now);
        assert!(s.run_until(600_000 * MS, |s| {
            s.ends[0].status(a).unwrap().fin && s.ends[1].status(b).unwrap().fin
        }));
    }
}

#[test]
fn one_percent_of_loss_does_not_stop_the_flow() {
    let link = Link {
        loss: 10,
        twice: 0,
        late: 0,
        delay_ns: 200_000,
    };
    let mut s = Sim::new(7, link, 0);
    let (a, b) = s.connected();
    let took = transfer(&mut s, 0, a, b, 20_000_000, 100_000 * MS);
    let rate = 20_000_000_000 / (took / MS);
    let figures = s.ends[0].figures(a);
    assert!(
        took < 20_000 * MS,
        "{} ms, {rate} bytes/s, {figures:?}",
        took / MS
    );
}

#[test]
fn a_slow_reader_closes_and_opens_the_window() {
    let mut s = Sim::new(3, Link::CLEAN, 65_000);
    let (a, b) = s.connected();
    let data: Vec<u8> = (0..2_000_000).map(byte).collect();
    let mut sent = 0;
    for _ in 0..50 {
        sent += s.write(0, a, &data[sent..]);
        s.run(100 * MS);
    }
    assert!(sent < data.len(), "the window bounds what is taken: {sent}");
    let held = s.ends[1].status(b).unwrap().readable;
    assert!((100_000..300_000).contains(&held), "{held}");
    // Long enough for window probes to back off.
    s.run(5_000 * MS);
    let mut got = 0;
    assert!(s.run_until(300_000 * MS, |s| {
        sent += s.write(0, a, &data[sent..]);
        for b in s.read(1, b) {
            assert_eq!(b, byte(got));
            got += 1;
        }
        got == data.len()
    }));
}

#[test]
fn half_close_lets_the_other_half_go_on() {
    let mut s = Sim::new(4, Link::CLEAN, 0);
    let (a, b) = s.connected();
    assert_eq!(s.write(0, a, b"last words"), 10);
    let now = s.now;
    s.ends[0].finish(a, now);
    s.run(100 * MS);
    let st = s.ends[1].status(b).unwrap();
    assert!(st.fin && st.readable == 10 && st.state == State::CloseWait);
    assert_eq!(s.read(1, b), b"last words");
    transfer(&mut s, 1, b, a, 500_000, 10_000 * MS);
    let now = s.now;
    s.ends[1].finish(b, now);
    s.run(100 * MS);
    assert!(s.ends[0].status(a).unwrap().fin);
    assert_eq!(s.ends[0].status(a).unwrap().state, State::TimeWait);
    assert_eq!(s.ends[1].status(b).unwrap().state, State::Closed);
    let now = s.now;
    s.ends[0].release(a, false, now);
    s.ends[1].release(b, false, now);
    assert!(s.ends[0].port_in_use(40_000, true) && !s.ends[1].port_in_use(80, false));
    s.run(61_000 * MS);
    assert_eq!((s.ends[0].flow_count(), s.ends[1].flow_count()), (0, 0));
}

#[test]
fn resets() {
    let mut s = Sim::new(5, Link::CLEAN, 0);
    let now = s.now;
    let refused = s.ends[0].connect(addr(0, 5000), addr(1, 81), now).unwrap();
    s.run(10 * MS);
    assert_eq!(s.ends[0].status(refused).unwrap().broken, Some(Broken::Refused));
    let (a, b) = s.connected();
    s.write(0, a, b"never read");
    s.run(10 * MS);
    let now = s.now;
    s.ends[1].release(b, false, now);
    s.run(10 * MS);
    assert_eq!(s.ends[0].status(a).unwrap().broken, Some(Broken::Reset));
    assert_eq!(s.ends[1].flow_count(), 0);
}

#[test]
fn nobody_answers() {
    let mut s = Sim::new(6, Link::CLEAN, 0);
    let (a, _) = s.connected();
    s.write(0, a, b"x");
    s.cut = [false, true];
    s.run(900_000 * MS);
    assert_eq!(s.ends[0].status(a).unwrap().broken, None);
    s.run(60_000 * MS);
    assert_eq!(s.ends[0].status(a).unwrap().broken, Some(Broken::TimedOut));
    // A host that is not there at all.
    let now = s.now;
    let to = "10.0.0.77:80".parse().unwrap();
    let c = s.ends[0].connect(addr(0, 5001), to, now).unwrap();
    s.run(2_500 * MS);
    assert_eq!(s.ends[0].status(c).unwrap().failed, None);
    s.run(1_000 * MS);
    assert_eq!(s.ends[0].status(c).unwrap().failed, Some(ftl_tcpip::Why::Host));
    assert_eq!(
        s.ends[0].connect(addr(0, 5002), "9.9.9.9:1".parse().unwrap(), s.now),
        Err(ftl_tcpip::Why::Network)
    );
}

#[test]
fn keepalive_finds_a_dead_peer_and_spares_a_live_one() {
    let mut s = Sim::new(8, Link::CLEAN, 0);
    let (a, b) = s.connected();
    let now = s.now;
    let alive = ftl_tcpip::Keepalive {
        idle_ns: 10_000 * MS,
        interval_ns: 1_000 * MS,
        count: 3,
    };
    s.ends[0].set_keepalive(a, Some(alive), now);
    let before = s.sent;
    s.run(100_000 * MS);
    let probes = s.sent[0] - before[0];
    assert!((8..30).contains(&probes), "{probes}");
    assert_eq!(s.ends[0].status(a).unwrap().broken, None);
    s.cut = [true, true];
    s.run(14_000 * MS);
    assert_eq!(s.ends[0].status(a).unwrap().broken, Some(Broken::TimedOut));
    assert!(s.ends[1].status(b).unwrap().connected());
}

#[test]
fn an_idle_connection_lives_and_costs_nothing() {
    let mut s = Sim::new(9, Link::CLEAN, 0);
    let (a, b) = s.connected();
    transfer(&mut s, 0, a, b, 1_000_000, 10_000 * MS);
    s.run(1_000 * MS);
    let before = s.sent;
    s.run(10_000_000 * MS);
    // The neighbours' addresses are asked for again.
    assert!(s.sent[0] + s.sent[1] - before[0] - before[1] < 10);
    transfer(&mut s, 1, b, a, 100_000, 10_000 * MS);
}

#[test]
fn a_small_write_does_not_wait() {
    let mut s = Sim::new(10, Link::CLEAN, 0);
    let (a, b) = s.connected();
    s.run(1_000 * MS);
    for i in 0..50 {
        let began = s.now;
        assert_eq!(s.write(0, a, b"ping"), 4);
        assert!(
            s.run_until(100 * MS, |s| s.ends[1].status(b).unwrap().readable == 4),
            "{i}"
        );
        assert_eq!(s.read(1, b), b"ping");
        s.write(1, b, b"pong");
        assert!(s.run_until(100 * MS, |s| s.ends[0].status(a).unwrap().readable == 4));
        s.read(0, a);
        assert!(s.now - began < MS, "{i}: {} ns", s.now - began);
    }
}

/// Throughput over a link, bytes a second of virtual time.
fn rate(seed: u64, loss: u64, late: u64, offload: usize) -> u64 {
    let link = Link {
        loss,
        twice: 0,
        late,
        delay_ns: 200_000,
    };
    let mut s = Sim::new(seed, link, offload);
    let (a, b) = s.connected();
    let len = 10_000_000;
    let took = transfer(&mut s, 0, a, b, len, 600_000 * MS);
    len as u64 * 1_000_000 / (took / 1000)
}

#[test]
fn reordering_alone_is_not_taken_for_loss() {
    let (clean, late) = (rate(3, 0, 0, 0), rate(3, 0, 20, 0));
    assert!(late > clean / 4, "{late} of {clean} bytes/s");
}

#[test]
fn loss_costs_less_than_timeouts_would() {
    for seed in 1..6 {
        let r = rate(seed, 20, 0, 0);
        assert!(r > 2_000_000, "{r} bytes/s");
    }
}

#[test]
fn a_lost_tail_is_found_without_a_timeout() {
    let mut s = Sim::new(12, Link::CLEAN, 0);
    let (a, b) = s.connected();
    transfer(&mut s, 0, a, b, 200_000, 10_000 * MS);
    for _ in 0..5 {
        s.run(1_000 * MS);
        // The last segments of a burst are lost: nothing behind them tells of it.
        let data: Vec<u8> = (0..14_480).map(byte).collect();
        s.write(0, a, &data[..10_000]);
        s.collect();
        s.cut[0] = true;
        s.write(0, a, &data[10_000..]);
        s.collect();
        s.cut[0] = false;
        let began = s.now;
        let mut got = 0;
        assert!(s.run_until(1_000 * MS, |s| {
            got += s.read(1, b).len();
            got == data.len()
        }));
        assert!(s.now - began < 60 * MS, "{} ms", (s.now - began) / MS);
    }
}
