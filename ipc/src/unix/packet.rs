//! What lies in a receive queue, and what it costs its sender.

use super::{Name, UnixSocket, WRITABLE};
use ftl_core::socket::{Passed, Ucred};
use std::rc::Weak;

/// One sk_buff's worth.
pub(super) struct Packet {
    pub data: Vec<u8>,
    /// Bytes that a stream's reader has taken.
    pub taken: usize,
    pub rights: Vec<Passed>,
    pub creds: Option<Ucred>,
    /// Name of the sender; it may be bound later.
    pub from: Name,
    /// A packet of the host: what of its window is granted again when it is read.
    pub host_cost: usize,
    /// Descriptors came with it, and were closed.
    pub lost_rights: bool,
    charge: usize,
    sender: Weak<UnixSocket>,
}

impl Packet {
    /// Charged to `sender` until it is dropped.
    pub fn new(sender: &UnixSocket, data: Vec<u8>, charge: usize) -> Packet {
        sender.charged.set(sender.charged.get() + charge);
        Packet {
            data,
            taken: 0,
            rights: Vec::new(),
            creds: None,
            from: sender.name(),
            host_cost: 0,
            lost_rights: false,
            charge,
            sender: sender.me.clone(),
        }
    }

    /// From a socket of the host.
    pub fn of_host(
        data: Vec<u8>,
        cost: usize,
        creds: Option<Ucred>,
        from: Name,
        lost_rights: bool,
    ) -> Packet {
        Packet {
            data,
            taken: 0,
            rights: Vec::new(),
            creds,
            from,
            host_cost: cost,
            lost_rights,
            charge: 0,
            sender: Weak::new(),
        }
    }

    /// Bytes not yet taken.
    pub fn len(&self) -> usize {
        self.data.len() - self.taken
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        if let Some(s) = self.sender.upgrade() {
            s.charged.set(s.charged.get() - self.charge);
            if s.roomy() {
                // sock_wfree: unix_write_space
                s.queue.notify(WRITABLE);
            }
        }
    }
}

/// sizeof(struct sk_buff), aligned.
const SKB: usize = 256;
/// sizeof(struct skb_shared_info), aligned.
const SHARED: usize = 320;
const PAGE: usize = 4096;
/// Largest linear part of a stream's buffer (SKB_MAX_HEAD(0)) and of a packet's (SKB_MAX_ALLOC).
const STREAM_HEAD: usize = PAGE - SHARED;
const PACKET_HEAD: usize = 4 * PAGE - SHARED;
/// Most bytes of one buffer of a stream.
pub(super) const STREAM_MAX: usize = STREAM_HEAD + 8 * PAGE;

fn truesize(linear: usize, paged: usize) -> usize {
    let head = linear.next_multiple_of(64) + SHARED;
    SKB + head.next_power_of_two().max(512) + paged.next_multiple_of(PAGE)
}

/// What `len` bytes of a stream cost, as unix_stream_sendmsg() allocates.
pub(super) fn stream_charge(len: usize) -> usize {
    let paged = len.saturating_sub(STREAM_HEAD).next_multiple_of(PAGE).min(len);
    truesize(len - paged, paged)
}

/// What a packet of `len` bytes costs, as unix_dgram_sendmsg() allocates.
pub(super) fn packet_charge(len: usize) -> usize {
    // MAX_SKB_FRAGS * PAGE_SIZE
    let paged = len.saturating_sub(PACKET_HEAD).min(17 * PAGE);
    let paged = paged.next_multiple_of(PAGE).min(len);
    truesize(len - paged, paged)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many fit into the default send buffer, as measured on Linux 6.18.
    fn fit(charge: usize) -> usize {
        212_992usize.div_ceil(charge)
    }

    #[test]
    fn as_measured() {
        for (len, n) in [
            (1, 278),
            (100, 278),
            (384, 167),
            (600, 167),
            (1000, 93),
            (3776, 49),
            (3777, 44),
            (5000, 34),
            (8192, 24),
            (16384, 13),
            (36544, 6),
        ] {
            assert_eq!(fit(stream_charge(len)), n, "stream {len}");
        }
        for (len, n) in [
            (1, 278),
            (3777, 26),
            (5000, 26),
            (8192, 13),
            (16384, 11),
            (36544, 6),
            (65536, 4),
            (200_000, 2),
        ] {
            assert_eq!(fit(packet_charge(len)), n, "packet {len}");
        }
    }
}
