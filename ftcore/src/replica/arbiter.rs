//! The register that decides (PROTOCOL §4): who is primary in which epoch, and who holds all that was released.
//!
//! Any store with compare-and-swap on a revision and linearizable reads will do (etcd: `mod_revision`). The
//! value is one line of text, so that an operator can read it where it is stored.
//!
//! A swap whose answer is lost is **unknown**: it may have happened, or may still happen later. A read that
//! shows the old value proves only that it has not happened yet. It is settled when the revision has moved:
//! whatever still expects the old one can then only fail. [`Asker`] keeps that rule for both machines.

use crate::platform::Ns;
use std::fmt::{self, Write};

/// One run of one node's process: host names do not tell a restarted, empty process from the one that had the data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Member {
    /// Which node.
    pub node: u64,
    /// Random at each start of its process.
    pub inc: u128,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:032x}", self.node, self.inc)
    }
}

/// The register's value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Register {
    /// Grows with every change.
    pub epoch: u32,
    /// The only one that may emit in this epoch.
    pub primary: Member,
    /// Who holds everything that was released, the primary included. Only these may promote themselves.
    pub set: Vec<Member>,
}

/// Members that a register names at most.
pub const MAX_SET: usize = 8;
const PREFIX: &str = "ftvm-arbiter/1";

impl Register {
    /// The value as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut s = format!("{PREFIX} epoch={} primary={} set=", self.epoch, self.primary);
        for (i, m) in self.set.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(s, "{comma}{m}");
        }
        let crc = crc32fast::hash(s.as_bytes());
        let _ = write!(s, " crc={crc:08x}");
        s.into_bytes()
    }

    /// Reads a stored value; anything that [`Register::encode`] would not have written is refused.
    pub fn decode(bytes: &[u8]) -> Result<Register, String> {
        let wrong = |what: &str| {
            format!(
                "the arbiter's value is not one of this ftvm ({what}): {:?}; another program uses this key, or it is damaged",
                String::from_utf8_lossy(&bytes[..bytes.len().min(80)])
            )
        };
        let parse = || -> Option<Register> {
            let rest = std::str::from_utf8(bytes).ok()?.strip_prefix(PREFIX)?;
            let rest = rest.strip_prefix(" epoch=")?;
            let (epoch, rest) = rest.split_once(" primary=")?;
            let (primary, rest) = rest.split_once(" set=")?;
            let (set, _) = rest.split_once(" crc=")?;
            let set = set.split(',').map(member).collect::<Option<Vec<_>>>()?;
            let r = Register {
                epoch: epoch.parse().ok()?,
                primary: member(primary)?,
                set,
            };
            (r.set.len() <= MAX_SET).then_some(r)
        };
        let r = parse().ok_or_else(|| wrong("format"))?;
        if r.encode() != bytes {
            return Err(wrong("checksum"));
        }
        if !r.set.contains(&r.primary) {
            return Err(wrong("its primary is not in its own set"));
        }
        Ok(r)
    }
}

fn member(s: &str) -> Option<Member> {
    let (node, inc) = s.split_once('.')?;
    Some(Member {
        node: u64::from_str_radix(node, 16).ok()?,
        inc: u128::from_str_radix(inc, 16).ok()?,
    })
}

/// A value with the revision that a swap must name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Versioned {
    /// The value.
    pub value: Register,
    /// Never 0; different for every change.
    pub rev: u64,
}

/// What the arbiter is asked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Ask {
    /// A linearizable read.
    Read,
    /// Set the value if the revision is still `expect`; 0: if there is none yet.
    Cas {
        /// Revision that it must have.
        expect: u64,
        /// New value.
        value: Register,
    },
}

/// A question to the arbiter; its answer comes back with the same number.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    /// Number, unique within a machine.
    pub id: u64,
    /// The question.
    pub ask: Ask,
}

/// What came of a question.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// Read: the value now, if there is one.
    Is(Option<Versioned>),
    /// Swapped; the new revision.
    Swapped(u64),
    /// Not swapped, and it never will be.
    Refused,
    /// No answer, or an answer that does not tell.
    Unknown,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Answer {
    /// Of which request.
    pub id: u64,
    /// What it says.
    pub outcome: Outcome,
}

/// The register in memory: for tests, and for two nodes on one host.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Memory {
    cell: Option<Versioned>,
    revs: u64,
}

impl Memory {
    /// Carries out a question.
    pub fn handle(&mut self, ask: &Ask) -> Outcome {
        match ask {
            Ask::Read => Outcome::Is(self.cell.clone()),
            Ask::Cas { expect, value } => {
                if self.cell.as_ref().map_or(0, |c| c.rev) != *expect {
                    return Outcome::Refused;
                }
                self.revs += 1;
                self.cell = Some(Versioned {
                    value: value.clone(),
                    rev: self.revs,
                });
                Outcome::Swapped(self.revs)
            }
        }
    }

    /// The value now.
    pub fn value(&self) -> Option<&Register> {
        self.cell.as_ref().map(|c| &c.value)
    }
}

/// What a machine learns from an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Learned {
    /// Our swap was carried out: this is the register.
    Won(Versioned),
    /// A read's answer.
    Saw(Option<Versioned>),
    /// Nothing; ask again when [`Asker::idle`] says so.
    Nothing,
}

/// One question at a time, and what is still open about earlier ones.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Asker {
    ids: u64,
    busy: Option<(u64, Ns, Ask)>,
    /// Revision that swaps of unknown outcome expect; while it is current, they may still happen.
    unknown: Option<u64>,
    /// A read comes before the next swap.
    stale: bool,
    retry_ns: Ns,
}

/// Without what only tells questions and moments apart: the model takes such states for one.
impl std::hash::Hash for Asker {
    fn hash<H: std::hash::Hasher>(&self, h: &mut H) {
        let ask = self.busy.as_ref().map(|(_, _, ask)| ask);
        (ask, self.unknown, self.stale).hash(h);
    }
}

impl Asker {
    /// What another process must know to ask on: the last question's number, and the revision that swaps of
    /// unknown outcome expect. What is out counts as unknown.
    pub fn parts(&self) -> (u64, Option<u64>) {
        let out = match &self.busy {
            Some((_, _, Ask::Cas { expect, .. })) => Some(*expect),
            _ => None,
        };
        (self.ids, out.or(self.unknown))
    }

    /// The reverse of [`Asker::parts`].
    pub fn from_parts(ids: u64, unknown: Option<u64>) -> Asker {
        Asker {
            ids,
            unknown,
            stale: unknown.is_some(),
            ..Asker::default()
        }
    }

    /// No question is out and the pause after the last failure is over.
    pub fn idle(&self, now_ns: Ns) -> bool {
        self.busy.is_none() && now_ns >= self.retry_ns
    }

    /// A swap that expects `rev` is out or may still happen.
    pub fn in_doubt(&self, rev: u64) -> bool {
        self.unknown == Some(rev)
            || matches!(&self.busy, Some((_, _, Ask::Cas { expect, .. })) if *expect == rev)
    }

    /// The last swap was not answered, or refused: a read comes before the next one.
    pub fn must_read(&self) -> bool {
        self.stale
    }

    /// Puts a question.
    pub fn ask(&mut self, now_ns: Ns, ask: Ask) -> Request {
        self.ids += 1;
        self.busy = Some((self.ids, now_ns, ask.clone()));
        Request { id: self.ids, ask }
    }

    /// Takes an answer. Answers to questions that were given up are dropped: a read follows anyway.
    pub fn answer(&mut self, now_ns: Ns, retry_ns: Ns, a: Answer) -> Learned {
        let Some((_, _, ask)) = self.busy.take_if(|(id, ..)| *id == a.id) else {
            return Learned::Nothing;
        };
        match (ask, a.outcome) {
            (Ask::Read, Outcome::Is(v)) => {
                let rev = v.as_ref().map_or(0, |v| v.rev);
                self.stale = false;
                if self.unknown.is_some_and(|u| u != rev) {
                    self.unknown = None;
                }
                Learned::Saw(v)
            }
            (Ask::Cas { value, .. }, Outcome::Swapped(rev)) => {
                (self.unknown, self.stale) = (None, false);
                Learned::Won(Versioned { value, rev })
            }
            // Somebody's swap came first, perhaps an earlier one of our own: the read will tell.
            (Ask::Cas { expect, .. }, Outcome::Refused) => {
                (self.unknown, self.stale) = (Some(expect), true);
                Learned::Nothing
            }
            (ask, _) => {
                if let Ask::Cas { expect, .. } = ask {
                    (self.unknown, self.stale) = (Some(expect), true);
                } else {
                    self.retry_ns = now_ns.saturating_add(retry_ns);
                }
                Learned::Nothing
            }
        }
    }

    /// Gives up a question that was put too long ago. True if it was.
    pub fn expire(&mut self, now_ns: Ns, timeout_ns: Ns) -> bool {
        let late = |(_, since, _): &mut (u64, Ns, Ask)| now_ns.saturating_sub(*since) > timeout_ns;
        match self.busy.take_if(late) {
            Some((_, _, Ask::Cas { expect, .. })) => {
                (self.unknown, self.stale) = (Some(expect), true);
                true
            }
            Some(_) => true,
            None => false,
        }
    }

    /// After a read that showed the revision unchanged: swap again, but not at once.
    pub fn pause(&mut self, now_ns: Ns, retry_ns: Ns) {
        self.retry_ns = now_ns.saturating_add(retry_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Register {
        let p = Member {
            node: 7,
            inc: 1 << 100,
        };
        let b = Member { node: 0xabc, inc: 5 };
        Register {
            epoch: 3,
            primary: p,
            set: vec![p, b],
        }
    }

    #[test]
    fn a_value_reads_back_and_damage_is_refused() {
        let r = sample();
        let bytes = r.encode();
        assert_eq!(Register::decode(&bytes), Ok(r.clone()));
        for i in 0..bytes.len() * 8 {
            let mut b = bytes.clone();
            b[i / 8] ^= 1 << (i % 8);
            assert!(Register::decode(&b).is_err(), "bit {i}");
        }
        let outside = Register {
            set: vec![r.set[1]],
            ..r
        };
        assert!(
            Register::decode(&outside.encode())
                .unwrap_err()
                .contains("not in its own set")
        );
    }

    #[test]
    fn a_swap_names_the_revision() {
        let mut m = Memory::default();
        let cas = |expect| Ask::Cas {
            expect,
            value: sample(),
        };
        assert_eq!(m.handle(&cas(3)), Outcome::Refused);
        assert_eq!(m.handle(&cas(0)), Outcome::Swapped(1));
        assert_eq!(m.handle(&cas(0)), Outcome::Refused);
        assert_eq!(m.handle(&cas(1)), Outcome::Swapped(2));
    }

    #[test]
    fn an_unknown_swap_is_in_doubt_until_the_revision_moves() {
        let (mut m, mut a) = (Memory::default(), Asker::default());
        assert_eq!(
            m.handle(&Ask::Cas {
                expect: 0,
                value: sample()
            }),
            Outcome::Swapped(1)
        );
        let lost = a.ask(
            0,
            Ask::Cas {
                expect: 1,
                value: sample(),
            },
        );
        assert!(!a.expire(10, 100));
        assert!(a.expire(101, 100));
        let read = a.ask(101, Ask::Read);
        let outcome = m.handle(&read.ask);
        let saw = a.answer(102, 5, Answer { id: read.id, outcome });
        assert!(matches!(saw, Learned::Saw(Some(v)) if v.rev == 1));
        assert!(a.in_doubt(1), "it may still happen");
        let late = m.handle(&lost.ask);
        let read = a.ask(103, Ask::Read);
        assert_eq!(
            a.answer(
                103,
                5,
                Answer {
                    id: lost.id,
                    outcome: late
                }
            ),
            Learned::Nothing
        );
        let outcome = m.handle(&read.ask);
        assert!(
            matches!(a.answer(104, 5, Answer { id: read.id, outcome }), Learned::Saw(Some(v)) if v.rev == 2)
        );
        assert!(!a.must_read());
    }

    proptest! {
        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Register::decode(&bytes).is_err());
        }
    }
}
