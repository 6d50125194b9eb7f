//! What a TCP socket asks of its surroundings: the time, the link's size, its first sequence number.

use core::num::{NonZeroU16, NonZeroUsize};
use smoltcp::time::Instant;
use smoltcp::wire::{IpAddress, TcpTimestampRepr};

/// Gives an indication on the next time the socket should be polled.
#[derive(Debug, PartialOrd, Ord, PartialEq, Eq, Clone, Copy)]
pub enum PollAt {
    /// It has something to send now.
    Now,
    /// At a time.
    Time(Instant),
    /// When something arrives.
    Ingress,
}

/// Value of the next timestamp option.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Tsval(pub u32);

/// The timestamp option that answers `tsecr`, if timestamps are on.
pub fn reply_with_tsval(tsval: Option<Tsval>, tsecr: u32) -> Option<TcpTimestampRepr> {
    tsval.map(|t| TcpTimestampRepr::new(t.0, tsecr))
}

/// What goes with a segment to the device.
#[derive(Debug, Default, Clone, Copy)]
pub struct PacketMeta {
    /// The device cuts it into segments of this size.
    pub segmentation_offload_size: Option<NonZeroU16>,
}

/// Largest segments that the device cuts up, headers included.
#[derive(Debug, Default, Clone, Copy)]
#[allow(missing_docs)]
pub struct SegmentationCaps {
    pub tcpv4: Option<NonZeroUsize>,
    pub tcpv6: Option<NonZeroUsize>,
}

/// See the module.
#[derive(Debug)]
pub struct Context {
    now_us: i64,
    mtu: usize,
    caps: SegmentationCaps,
    /// First sequence number of the flow that is being opened.
    pub isn: u32,
}

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

impl Context {
    /// `now` in ns; `mtu` without the Ethernet header; `offload`: largest frame that is cut by the
    /// device.
    pub fn new(now: u64, mtu: usize, offload: Option<NonZeroUsize>) -> Context {
        Context {
            now_us: (now / 1000) as i64,
            mtu,
            caps: SegmentationCaps {
                tcpv4: offload,
                tcpv6: offload,
            },
            isn: 0,
        }
    }

    /// The virtual clock.
    pub fn now(&self) -> Instant {
        Instant::from_micros(self.now_us)
    }

    /// Milliseconds of the virtual clock.
    pub fn tsval(&self) -> u32 {
        (self.now_us / 1000) as u32
    }

    /// Largest IP packet.
    pub fn ip_mtu(&self) -> usize {
        self.mtu
    }

    /// Largest frame.
    pub fn max_transmission_unit(&self) -> usize {
        self.mtu + ETHERNET
    }

    /// What the device can cut up.
    pub fn segmentation_caps(&self) -> SegmentationCaps {
        self.caps
    }

    /// A flow keeps its address for life.
    pub fn has_ip_addr(&self, _: IpAddress) -> bool {
        true
    }

    /// The caller names both ends.
    pub fn get_source_address(&self, _: &IpAddress) -> Option<IpAddress> {
        None
    }
}
