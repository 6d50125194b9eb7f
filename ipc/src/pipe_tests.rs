use super::*;
use ftl_core::io::Stop;
use ftl_core::testing::{BASE, World};

fn put(w: &mut World, f: &PipeEnd, n: usize) -> i64 {
    let mut src = Src::user(BASE, n as u64);
    result(f.write(&mut w.env(), 0, &mut src))
}

fn get(w: &mut World, f: &PipeEnd, n: usize) -> i64 {
    let mut dst = Dst::user(BASE, n as u64);
    result(f.read(&mut w.env(), 0, &mut dst))
}

fn result(r: Io<u64>) -> i64 {
    match r {
        Ok(n) => n as i64,
        Err(Stop::Errno(e)) => -i64::from(e.raw()),
        Err(_) => i64::MIN,
    }
}

const EAGAIN: i64 = -11;
const EPIPE: i64 = -32;

#[test]
fn bytes_come_in_order_and_64k_fit() {
    let mut w = World::new(1 << 20);
    let (r, wr) = PipeEnd::pair(&mut w.env(), 0, 0, 0);
    for (i, b) in w.plat.mem.iter_mut().enumerate() {
        *b = (i % 251) as u8;
    }
    let before = w.plat.mem[..65536].to_vec();
    assert_eq!(get(&mut w, &r, 10), EAGAIN);
    assert_eq!(put(&mut w, &wr, 100_000), 65536);
    assert_eq!(put(&mut w, &wr, 1), EAGAIN);
    assert_eq!(wr.pipe.len(), 65536);
    w.plat.mem[..65536].fill(0);
    assert_eq!(get(&mut w, &r, 70_000), 65536);
    assert_eq!(w.plat.mem[..65536], before);
    assert_eq!(get(&mut w, &r, 1), EAGAIN);
}

#[test]
fn full_means_slots_not_bytes() {
    // As on Linux: 16 writes of 4095 bytes leave 16 odd bytes, and a write of 2 does not fit.
    let mut w = World::new(1 << 16);
    let (r, wr) = PipeEnd::pair(&mut w.env(), 0, 0, 0);
    for _ in 0..16 {
        assert_eq!(put(&mut w, &wr, 4095), 4095);
    }
    assert_eq!(put(&mut w, &wr, 2), EAGAIN);
    assert_eq!(put(&mut w, &wr, 1), 1);
    assert_eq!(get(&mut w, &r, 4095), 4095);
    assert_eq!(put(&mut w, &wr, 4096), 4096);
}

#[test]
fn packets_keep_their_edges() {
    let mut w = World::new(1 << 16);
    let (r, wr) = PipeEnd::pair(&mut w.env(), O_DIRECT, 0, 0);
    assert_eq!(put(&mut w, &wr, 10), 10);
    assert_eq!(put(&mut w, &wr, 5000), 5000);
    assert_eq!(get(&mut w, &r, 4), 4);
    assert_eq!(get(&mut w, &r, 9000), 4096);
    assert_eq!(get(&mut w, &r, 9000), 904);
}

#[test]
fn ends_that_go() {
    let mut w = World::new(1 << 16);
    let (r, wr) = PipeEnd::pair(&mut w.env(), 0, 0, 0);
    assert_eq!(put(&mut w, &wr, 3), 3);
    assert_eq!(wr.poll(&mut w.env()), WRITABLE);
    assert_eq!(r.poll(&mut w.env()), READABLE);
    drop(wr);
    assert_eq!(r.poll(&mut w.env()), READABLE | Poll::HUP);
    assert_eq!(get(&mut w, &r, 10), 3);
    assert_eq!(get(&mut w, &r, 10), 0);
    assert_eq!(r.poll(&mut w.env()), Poll::HUP);
    let (r, wr) = PipeEnd::pair(&mut w.env(), 0, 0, 0);
    drop(r);
    assert_eq!(wr.poll(&mut w.env()), WRITABLE | Poll::ERR);
    assert_eq!(put(&mut w, &wr, 3), EPIPE);
}

#[test]
fn sizes() {
    let mut w = World::new(1 << 16);
    let (r, wr) = PipeEnd::pair(&mut w.env(), 0, 0, 0);
    let p = r.pipe();
    assert_eq!(p.size(), 65536);
    assert_eq!(p.set_size(5000, false), Ok(8192));
    assert_eq!(put(&mut w, &wr, 9000), 8192);
    assert_eq!(p.set_size(100, false), Err(Errno::EBUSY));
    assert_eq!(p.set_size(2 << 20, false), Err(Errno::EPERM));
    assert_eq!(p.set_size(2 << 20, true), Ok(2 << 20));
    assert_eq!(p.set_size((1 << 31) + 1, true), Err(Errno::EINVAL));
    assert_eq!(get(&mut w, &r, 9000), 8192);
    assert_eq!(p.set_size(0, false), Ok(4096));
}

#[test]
fn a_fault_loses_nothing() {
    let mut w = World::new(8192);
    let (r, wr) = PipeEnd::pair(&mut w.env(), 0, 0, 0);
    assert_eq!(put(&mut w, &wr, 100), 100);
    let mut dst = Dst::user(8, 100);
    assert_eq!(result(r.read(&mut w.env(), 0, &mut dst)), -14);
    assert_eq!(get(&mut w, &r, 100), 100);
    let mut src = Src::user(8, 100);
    assert_eq!(result(wr.write(&mut w.env(), 0, &mut src)), -14);
    assert_eq!(get(&mut w, &r, 100), EAGAIN);
}
