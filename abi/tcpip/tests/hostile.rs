//! Anything may arrive: no frame panics the stack, and what is not understood changes nothing.

mod sim;
use ftl_tcpip::Stack;
use proptest::prelude::*;
use sim::*;

/// Frames of a conversation: handshake, data, ends, echo, datagrams, fragments, neighbours.
fn corpus() -> Vec<Vec<u8>> {
    let mut s = Sim::new(1, Link::CLEAN, 0);
    s.tap = Some(Vec::new());
    let (a, b) = s.connected();
    transfer(&mut s, 0, a, b, 5000, 1000 * MS);
    let now = s.now;
    s.ends[1].udp_open(53);
    for size in [0, 100, 4000] {
        let data = vec![7; size];
        for (from, to) in [
            (addr(0, 99), addr(1, 53)),
            (addr6(0, 99), addr6(1, 53)),
            (addr(0, 9), addr(1, 9)),
        ] {
            s.ends[0].udp_send(from, to, &data, 64, now).unwrap();
        }
    }
    s.run(100 * MS);
    let now = s.now;
    s.ends[0].finish(a, now);
    s.ends[1].release(b, true, now);
    s.run(100 * MS);
    s.tap.take().unwrap()
}

/// A stack with a listener, a port and a connection, whose peer is 10.0.0.1.
fn target() -> Stack {
    let mut s = Sim::new(1, Link::CLEAN, 0);
    s.ends[1].udp_open(53);
    s.connected();
    let [_, target] = s.ends;
    target
}

fn drain(s: &mut Stack) {
    while s.take_frame().is_some() {}
    while s.take_event().is_some() {}
}

#[test]
fn the_corpus_is_what_it_should_be() {
    let all = corpus();
    assert!(all.len() > 30, "{}", all.len());
    for kind in [[8, 6], [8, 0], [0x86, 0xdd]] {
        assert!(all.iter().any(|f| f[22..24] == kind), "{kind:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn changed_frames(seed in any::<u64>(), changes in proptest::collection::vec((any::<u32>(), any::<u32>(), any::<u8>()), 1..60)) {
        let all = corpus();
        let mut s = target();
        let mut now = 2_000_000_000 + seed % 1000;
        for (which, at, value) in changes {
            let mut f = all[which as usize % all.len()].clone();
            // Headers more often than bytes of data.
            let span = if value & 1 == 0 { f.len().min(90) } else { f.len() };
            let at = at as usize % span;
            match value % 5 {
                0 => f.truncate(at),
                1 => f.extend_from_slice(&[value; 40]),
                _ => f[at] = value,
            }
            // Nobody verifies a checksum that the device vouches for.
            if let Some(flags) = f.first_mut() {
                *flags = 2;
            }
            s.input(&f, now);
            drain(&mut s);
            now += u64::from(which) << (value % 12);
            s.expire(now);
            drain(&mut s);
        }
        prop_assert!(s.flow_count() < 100);
    }

    #[test]
    fn noise(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..40)) {
        let mut s = target();
        for mut f in frames {
            if f.len() > 30 {
                f[10..16].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
                let kind = [[8, 0], [8, 6], [0x86, 0xdd]][usize::from(f[0]) % 3];
                f[22..24].copy_from_slice(&kind);
            }
            s.input(&f, 2_000_000_000);
            drain(&mut s);
        }
        prop_assert_eq!(s.flow_count(), 1);
    }
}
