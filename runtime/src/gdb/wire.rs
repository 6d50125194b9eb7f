//! What the gdb server and the replays that it starts say to each other: over a pair of sockets, a length before each message.
//!
//! The server asks and is answered, one message each; an order to go on is answered by the stop that ends it.

use super::place::Place;
use ftl_core::log::Wire;
use std::io::{self, Read, Write};

/// No message is longer.
const MAX: u32 = 64 << 20;

/// What is to be watched for, and what output has been printed before.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// Program addresses of breakpoints.
    pub breaks: Vec<u64>,
    /// Memory whose changes matter: address and length.
    pub watches: Vec<(u64, u64)>,
    /// Outputs of the image that are not to be printed (again).
    pub quiet: u64,
}

/// Until where a part of the history is searched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Limit {
    /// The first point after so many entries: what changed on the way there counts.
    Entries(u64),
    /// Before this place.
    Place(Place),
}

/// The server's side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// What is to be watched for from now on. Not answered.
    Want(Wanted),
    /// Go to the first point that gdb can see.
    First,
    /// Go to where the command line's `--stop` says.
    Stop,
    /// Go on; this thread makes one step.
    Run(Option<u64>),
    /// Go to a place.
    Goto(Place),
    /// Go to the limit and tell the last stop before it, among points after `from` entries.
    Search {
        /// Entries at the first departure that counts.
        from: u64,
        /// Where to end.
        limit: Limit,
        /// Every point of this thread's counts.
        step: Option<u64>,
        /// Only in what follows these departures (entries, departures) may watched memory change; none: in all.
        only: Vec<(u64, u64)>,
        /// Points from this place on count, and not those before; none: those after `from`.
        since: Option<Place>,
    },
    /// Go to the limit, and after the stop tell after which departures (entries, departures) the watched memory may have
    /// changed.
    Trace {
        /// Entries at the first departure that counts.
        from: u64,
        /// Where to end.
        limit: Limit,
    },
    /// Nobody looks any more: go on alone.
    Free,
    /// Stop where you are.
    Pause,
    /// Registers of a thread.
    Registers(u64),
    /// Memory as the program sees it: address and length.
    Memory(u64, u64),
    /// Threads.
    Threads,
    /// Auxiliary vector.
    Auxv,
    /// Path of the program.
    Exe,
    /// What a thread is called and does.
    About(u64),
}

/// Why a replay has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It is where it was to go.
    There,
    /// A step was made.
    Step,
    /// A breakpoint.
    Break,
    /// Watched memory has changed, or (backwards) is about to.
    Watch(u64),
    /// A signal of the guest's.
    Signal(u32),
    /// A pause was ordered.
    Pause,
    /// Nothing more is in the log, or the program is about to end.
    End,
    /// The image has ended with this wait status.
    Ended(i32),
    /// Search: nothing was found.
    Nothing,
    /// The place was not met.
    Lost,
}

/// A stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stop {
    /// Why.
    pub why: Why,
    /// Thread.
    pub tid: u64,
    /// Program counter as the program knows it.
    pub pc: u64,
    /// Where.
    pub place: Place,
    /// Outputs of the image so far.
    pub outputs: u64,
}

/// General registers, in the kernel's order, and the vector registers that gdb is told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Registers {
    /// As `ftl_core::context::reg`.
    pub general: [u64; 16],
    /// Program counter as the program knows it.
    pub rip: u64,
    /// Flags.
    pub flags: u64,
    /// xmm0 to xmm15, low half first.
    pub xmm: [[u64; 2]; 16],
    /// SSE control and status.
    pub mxcsr: u32,
}

/// A list of pairs.
pub fn put_pairs(list: &[(u64, u64)], out: &mut Vec<u8>) {
    list.len().put(out);
    for pair in list {
        pair.put(out);
    }
}

/// See [`put_pairs`].
pub fn take_pairs(src: &mut &[u8]) -> Option<Vec<(u64, u64)>> {
    let n = usize::take(src)?;
    (0..n).map(|_| Wire::take(src)).collect()
}

/// A list of numbers.
pub fn put_numbers(list: &[u64], out: &mut Vec<u8>) {
    list.len().put(out);
    for n in list {
        n.put(out);
    }
}

/// See [`put_numbers`].
pub fn take_numbers(src: &mut &[u8]) -> Option<Vec<u64>> {
    let n = usize::take(src)?;
    (0..n).map(|_| Wire::take(src)).collect()
}

impl Wire for Wanted {
    fn put(&self, out: &mut Vec<u8>) {
        put_numbers(&self.breaks, out);
        put_pairs(&self.watches, out);
        self.quiet.put(out);
    }
    fn take(src: &mut &[u8]) -> Option<Wanted> {
        Some(Wanted {
            breaks: take_numbers(src)?,
            watches: take_pairs(src)?,
            quiet: Wire::take(src)?,
        })
    }
}

impl Wire for Limit {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Limit::Entries(e) => (0u8, *e).put(out),
            Limit::Place(p) => {
                1u8.put(out);
                p.put(out);
            }
        }
    }
    fn take(src: &mut &[u8]) -> Option<Limit> {
        match u8::take(src)? {
            0 => u64::take(src).map(Limit::Entries),
            1 => Place::take(src).map(Limit::Place),
            _ => None,
        }
    }
}

impl Wire for Order {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Order::First => 0u8.put(out),
            Order::Stop => 1u8.put(out),
            Order::Run(step) => (2u8, *step).put(out),
            Order::Goto(place) => {
                3u8.put(out);
                place.put(out);
            }
            Order::Search {
                from,
                limit,
                step,
                only,
                since,
            } => {
                (4u8, *from, *step).put(out);
                limit.put(out);
                put_pairs(only, out);
                since.put(out);
            }
            Order::Trace { from, limit } => {
                (14u8, *from).put(out);
                limit.put(out);
            }
            Order::Free => 5u8.put(out),
            Order::Pause => 6u8.put(out),
            Order::Registers(tid) => (7u8, *tid).put(out),
            Order::Memory(at, len) => (8u8, *at, *len).put(out),
            Order::Threads => 9u8.put(out),
            Order::Auxv => 10u8.put(out),
            Order::Exe => 11u8.put(out),
            Order::About(tid) => (12u8, *tid).put(out),
            Order::Want(wanted) => {
                13u8.put(out);
                wanted.put(out);
            }
        }
    }
    fn take(src: &mut &[u8]) -> Option<Order> {
        Some(match u8::take(src)? {
            0 => Order::First,
            1 => Order::Stop,
            2 => Order::Run(Wire::take(src)?),
            3 => Order::Goto(Wire::take(src)?),
            4 => {
                let (from, step) = Wire::take(src)?;
                let limit = Wire::take(src)?;
                let only = take_pairs(src)?;
                let since = Wire::take(src)?;
                Order::Search {
                    from,
                    limit,
                    step,
                    only,
                    since,
                }
            }
            5 => Order::Free,
            6 => Order::Pause,
            7 => Order::Registers(Wire::take(src)?),
            8 => Order::Memory(Wire::take(src)?, Wire::take(src)?),
            9 => Order::Threads,
            10 => Order::Auxv,
            11 => Order::Exe,
            12 => Order::About(Wire::take(src)?),
            13 => Order::Want(Wire::take(src)?),
            14 => Order::Trace {
                from: Wire::take(src)?,
                limit: Wire::take(src)?,
            },
            _ => return None,
        })
    }
}

impl Wire for Why {
    fn put(&self, out: &mut Vec<u8>) {
        let (kind, n) = match self {
            Why::There => (0u8, 0),
            Why::Step => (1, 0),
            Why::Break => (2, 0),
            Why::Watch(at) => (3, *at),
            Why::Signal(n) => (4, u64::from(*n)),
            Why::Pause => (5, 0),
            Why::End => (6, 0),
            Why::Ended(status) => (7, u64::from(*status as u32)),
            Why::Nothing => (8, 0),
            Why::Lost => (9, 0),
        };
        (kind, n).put(out);
    }
    fn take(src: &mut &[u8]) -> Option<Why> {
        let (kind, n): (u8, u64) = Wire::take(src)?;
        Some(match kind {
            0 => Why::There,
            1 => Why::Step,
            2 => Why::Break,
            3 => Why::Watch(n),
            4 => Why::Signal(u32::try_from(n).ok()?),
            5 => Why::Pause,
            6 => Why::End,
            7 => Why::Ended(u32::try_from(n).ok()? as i32),
            8 => Why::Nothing,
            9 => Why::Lost,
            _ => return None,
        })
    }
}

impl Wire for Stop {
    fn put(&self, out: &mut Vec<u8>) {
        self.why.put(out);
        (self.tid, self.pc, self.outputs).put(out);
        self.place.put(out);
    }
    fn take(src: &mut &[u8]) -> Option<Stop> {
        let why = Wire::take(src)?;
        let (tid, pc, outputs) = Wire::take(src)?;
        let place = Wire::take(src)?;
        Some(Stop {
            why,
            tid,
            pc,
            place,
            outputs,
        })
    }
}

impl Wire for Registers {
    fn put(&self, out: &mut Vec<u8>) {
        self.general.put(out);
        (self.rip, self.flags, self.mxcsr).put(out);
        for x in &self.xmm {
            x.put(out);
        }
    }
    fn take(src: &mut &[u8]) -> Option<Registers> {
        let general = Wire::take(src)?;
        let (rip, flags, mxcsr) = Wire::take(src)?;
        let mut xmm = [[0; 2]; 16];
        for x in &mut xmm {
            *x = Wire::take(src)?;
        }
        Some(Registers {
            general,
            rip,
            flags,
            xmm,
            mxcsr,
        })
    }
}

/// Encodes one message.
pub fn encode<T: Wire>(message: &T) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    message.put(&mut bytes);
    let len = bytes.len() as u32 - 4;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes
}

/// Sends one message.
pub fn send<T: Wire>(to: &mut impl Write, message: &T) -> io::Result<()> {
    to.write_all(&encode(message))
}

/// Waits for one message.
pub fn receive<T: Wire>(from: &mut impl Read) -> io::Result<T> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len);
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "an odd message");
    if len > MAX {
        return Err(odd());
    }
    let mut bytes = vec![0; len as usize];
    from.read_exact(&mut bytes)?;
    let mut src = bytes.as_slice();
    T::take(&mut src).filter(|_| src.is_empty()).ok_or_else(odd)
}

#[cfg(test)]
mod tests {
    use super::super::place::Leg;
    use super::*;

    fn same<T: Wire + PartialEq + std::fmt::Debug>(message: T) {
        let bytes = encode(&message);
        assert_eq!(receive::<T>(&mut bytes.as_slice()).expect("a message"), message);
        assert!(receive::<T>(&mut &bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn messages_are_read_as_they_are_sent() {
        let place = Place {
            entries: 1 << 40,
            departures: 1,
            legs: vec![Leg::Step(5)],
        };
        for order in [
            Order::First,
            Order::Stop,
            Order::Run(None),
            Order::Run(Some(7)),
            Order::Goto(place.clone()),
            Order::Search {
                from: 3,
                limit: Limit::Entries(9),
                step: None,
                only: vec![(4, 1), (5, 2)],
                since: None,
            },
            Order::Trace {
                from: 7,
                limit: Limit::Entries(8),
            },
            Order::Search {
                from: 0,
                limit: Limit::Place(place.clone()),
                step: Some(1),
                only: Vec::new(),
                since: Some(place.clone()),
            },
            Order::Free,
            Order::Pause,
            Order::Registers(1),
            Order::Memory(u64::MAX, 8),
            Order::Threads,
            Order::Auxv,
            Order::Exe,
            Order::About(2),
        ] {
            same(order);
        }
        for why in [
            Why::There,
            Why::Step,
            Why::Break,
            Why::Watch(0x1000),
            Why::Signal(11),
            Why::Pause,
            Why::End,
            Why::Ended(139),
            Why::Nothing,
            Why::Lost,
        ] {
            same(Stop {
                why,
                tid: 1,
                pc: 2,
                place: place.clone(),
                outputs: 3,
            });
        }
        same(Order::Want(Wanted {
            breaks: vec![1, 2],
            watches: vec![(3, 4)],
            quiet: u64::MAX,
        }));
        same(Registers {
            xmm: [[1, u64::MAX]; 16],
            ..Registers::default()
        });
    }
}
