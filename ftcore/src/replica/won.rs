//! What a backup that won hands to the process in which the image goes on.
//!
//! The agent's process holds the machine, the image runs in another one: what that needs to become the
//! primary crosses as bytes.

use super::arbiter::Asker;
use super::config::Config;
use super::gate::{Gate, Marks};
use super::{Mark, Member, OnSlow, Primary, Register, Time, Unprotected, Versioned};
use crate::log::Wire;
use crate::log::wire::{put_list, take_list};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Won {
    /// Identity and policies.
    pub cfg: Config,
    /// The register as it was won.
    pub a: Versioned,
    /// Outputs before the snapshot in place.
    pub marks: Marks,
    /// Outputs up to this number are known to have left.
    pub released: u64,
    /// Records held.
    pub held: u64,
    /// Horizon held.
    pub h: Time,
    /// Go live exactly here (switchover).
    pub last: Option<Time>,
    /// [`Asker::parts`].
    pub asker: (u64, Option<u64>),
}

impl Won {
    /// The gate of the replay.
    pub fn gate(&self) -> Gate {
        Gate::replay(self.cfg.gate_bytes, &self.marks, self.released)
    }

    /// The primary, once the replay has come to its end at `at`.
    pub fn into_primary(self, at: Time, mut gate: Gate) -> Primary {
        gate.live();
        let mark = Mark {
            position: self.held,
            at: self.h.max(at),
        };
        let (ids, unknown) = self.asker;
        Primary::taken_over(self.cfg, self.a, mark, gate, Asker::from_parts(ids, unknown))
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let c = &self.cfg;
        c.image.put(&mut out);
        (c.me.node, c.me.inc as u64, (c.me.inc >> 64) as u64).put(&mut out);
        c.build.to_vec().put(&mut out);
        (c.on_slow == OnSlow::Detach).put(&mut out);
        (match c.unprotected {
            Unprotected::HoldUntilSynced => 0u8,
            Unprotected::Hold => 1,
            Unprotected::Run => 2,
        })
        .put(&mut out);
        self.a.value.encode().put(&mut out);
        self.a.rev.put(&mut out);
        self.marks.outputs.put(&mut out);
        put_list(&self.marks.streams, &mut out);
        put_list(&self.marks.held, &mut out);
        (self.released, self.held).put(&mut out);
        (self.h.e, self.h.v).put(&mut out);
        self.last.map(|t| (t.e, t.v)).put(&mut out);
        self.asker.put(&mut out);
        out
    }

    /// Reads them back; `None` if they are damaged.
    pub fn decode(mut src: &[u8]) -> Option<Won> {
        let src = &mut src;
        let image = Wire::take(src)?;
        let (node, low, high): (u64, u64, u64) = Wire::take(src)?;
        let inc = u128::from(low) | u128::from(high) << 64;
        let mut cfg = Config::new(image, Member { node, inc });
        cfg.build = <Vec<u8> as Wire>::take(src)?.try_into().ok()?;
        cfg.on_slow = if bool::take(src)? {
            OnSlow::Detach
        } else {
            OnSlow::Throttle
        };
        cfg.unprotected = match u8::take(src)? {
            0 => Unprotected::HoldUntilSynced,
            1 => Unprotected::Hold,
            2 => Unprotected::Run,
            _ => return None,
        };
        let a = Versioned {
            value: Register::decode(&<Vec<u8> as Wire>::take(src)?).ok()?,
            rev: Wire::take(src)?,
        };
        let marks = Marks {
            outputs: Wire::take(src)?,
            streams: take_list(src)?,
            held: take_list(src)?,
        };
        let (released, held) = Wire::take(src)?;
        let (e, v) = Wire::take(src)?;
        let last = <Option<(u64, u64)> as Wire>::take(src)?;
        let asker = Wire::take(src)?;
        src.is_empty().then_some(Won {
            cfg,
            a,
            marks,
            released,
            held,
            h: Time { e, v },
            last: last.map(|(e, v)| Time { e, v }),
            asker,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::{Class, Output};

    #[test]
    fn it_crosses_as_bytes() {
        let me = Member {
            node: 7,
            inc: (5 << 100) | 3,
        };
        let won = Won {
            cfg: Config::new(9, me),
            a: Versioned {
                value: Register {
                    epoch: 3,
                    primary: me,
                    set: vec![me],
                },
                rev: 12,
            },
            marks: Marks {
                outputs: 5,
                streams: vec![(1, 20)],
                held: vec![Output {
                    number: 5,
                    class: Class::Stream { stream: 1 },
                    offset: 18,
                    again: false,
                    bytes: vec![1, 2],
                }],
            },
            released: 4,
            held: 99,
            h: Time { e: 1, v: 2 },
            last: None,
            asker: (3, Some(9)),
        };
        let bytes = won.encode();
        assert_eq!(Won::decode(&bytes).as_ref(), Some(&won));
        for n in 0..bytes.len() {
            assert_eq!(Won::decode(&bytes[..n]), None);
        }
    }
}
