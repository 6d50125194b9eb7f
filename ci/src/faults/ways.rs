//! Faults of one direction of a host's way to the arbiter, an etcd here: asked and not heard, or heard and not asked; answers that are lost
//! or late, questions that come late.
//!
//! Without the arbiter's word an image that lost its peer is silent. It goes on when it is heard again, or at the other host if that has won.

use super::{End, KILL, LONG};
use ftl_lab::cluster::{Cluster, Side};
use ftl_lab::etcd::{Direction, Rule};
use ftl_lab::load::Load;
use ftl_lab::{Dice, now_ns};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What happens. The primary is at A.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// The link is cut, what the primary asks vanishes.
    Unasked,
    /// The link is cut, what the primary is answered vanishes: a swap may have been carried out that it does not know of.
    Unanswered,
    /// As [`Way::Unasked`], of the backup.
    UnaskedBackup,
    /// As [`Way::Unanswered`], of the backup, which reads before it swaps.
    UnansweredBackup,
    /// The backup is killed, what the primary asks vanishes.
    UnaskedAlone,
    /// The backup is killed, what the primary is answered vanishes.
    UnansweredAlone,
    /// The primary is killed, what the backup asks vanishes.
    UnaskedKill,
    /// The primary is killed, what the backup is answered vanishes.
    UnansweredKill,
    /// The link is cut, swaps are carried out and nobody hears of it: reads tell.
    SwapsUnanswered,
    /// As [`Way::SwapsUnanswered`], and the primary is killed instead.
    SwapsUnansweredKill,
    /// The link is cut, each answer takes nearly as long as it is waited for.
    Slow,
    /// The link is cut, what the primary asks comes when the backup has taken over.
    Stale,
}

/// What is to come before all is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meanwhile {
    /// No answer.
    Silent,
    /// Answers, of whoever is to answer.
    GoesOn,
    /// Answers of the backup, or none.
    MovedOrSilent,
}

/// When what happened.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    way: Way,
    /// The fault that makes the arbiter matter, ns.
    pub at: u64,
    healed: u64,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 12] = [
        Way::Unasked,
        Way::Unanswered,
        Way::UnaskedBackup,
        Way::UnansweredBackup,
        Way::UnaskedAlone,
        Way::UnansweredAlone,
        Way::UnaskedKill,
        Way::UnansweredKill,
        Way::SwapsUnanswered,
        Way::SwapsUnansweredKill,
        Way::Slow,
        Way::Stale,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Unasked => "unasked",
            Way::Unanswered => "unanswered",
            Way::UnaskedBackup => "unasked-backup",
            Way::UnansweredBackup => "unanswered-backup",
            Way::UnaskedAlone => "unasked-alone",
            Way::UnansweredAlone => "unanswered-alone",
            Way::UnaskedKill => "unasked-kill",
            Way::UnansweredKill => "unanswered-kill",
            Way::SwapsUnanswered => "swaps-unanswered",
            Way::SwapsUnansweredKill => "swaps-unanswered-kill",
            Way::Slow => "slow",
            Way::Stale => "stale",
        }
    }

    pub(super) fn end(self) -> End {
        use Way::*;
        match self {
            Unasked | UnaskedKill | UnansweredKill | SwapsUnansweredKill | Stale => End::Moves,
            UnaskedBackup | UnansweredBackup | UnaskedAlone | UnansweredAlone => End::Stays,
            Unanswered | SwapsUnanswered | Slow => End::Either,
        }
    }

    /// The primary is dead in the end.
    pub(super) fn kills(self) -> bool {
        use Way::*;
        matches!(self, UnaskedKill | UnansweredKill | SwapsUnansweredKill)
    }

    /// By a relay that knows a swap from a read.
    pub(super) fn relayed(self) -> bool {
        self.cut().is_none()
    }

    fn meanwhile(self) -> Meanwhile {
        use Way::*;
        match self {
            UnaskedAlone | UnansweredAlone | UnaskedKill | UnansweredKill => Meanwhile::Silent,
            Unanswered => Meanwhile::MovedOrSilent,
            _ => Meanwhile::GoesOn,
        }
    }

    /// Whose way, and which direction of it.
    fn cut(self) -> Option<(Side, Direction)> {
        use Way::*;
        Some(match self {
            Unasked | UnaskedAlone => (Side::A, Direction::Asked),
            Unanswered | UnansweredAlone => (Side::A, Direction::Answered),
            UnaskedBackup | UnaskedKill => (Side::B, Direction::Asked),
            UnansweredBackup | UnansweredKill => (Side::B, Direction::Answered),
            SwapsUnanswered | SwapsUnansweredKill | Slow | Stale => return None,
        })
    }

    fn rules(self) -> [(Side, Rule); 2] {
        match self {
            Way::SwapsUnanswered | Way::SwapsUnansweredKill => {
                [(Side::A, Rule::SwapsUnanswered), (Side::B, Rule::SwapsUnanswered)]
            }
            Way::Slow => [(Side::A, Rule::Slow), (Side::B, Rule::Slow)],
            Way::Stale => [(Side::A, Rule::Hold), (Side::B, Rule::Pass)],
            _ => [(Side::A, Rule::Pass), (Side::B, Rule::Pass)],
        }
    }

    /// Does it, and undoes what is only for a while.
    pub(super) fn happen(
        self,
        c: &mut Cluster,
        load: &Load,
        dice: &mut Dice,
        wrong: &mut Vec<String>,
    ) -> io::Result<Story> {
        if let Some((side, direction)) = self.cut() {
            c.etcd_passes(side, direction, false)?;
        }
        for (side, rule) in self.rules() {
            c.etcd()?.rule(side, rule);
        }
        std::thread::sleep(Duration::from_millis(dice.below(300)));
        let at = now_ns();
        let cut = match self {
            Way::UnaskedAlone | Way::UnansweredAlone => {
                c.signal(Side::B, KILL);
                false
            }
            _ if self.kills() => {
                c.signal(Side::A, KILL);
                false
            }
            _ => {
                c.net.link(false)?;
                true
            }
        };
        if self.meanwhile() == Meanwhile::GoesOn {
            std::thread::sleep(SETTLES);
            let before = load.answers.load(Relaxed);
            let end = now_ns() + LONG.as_nanos() as u64;
            while load.answers.load(Relaxed) == before {
                if now_ns() > end {
                    wrong.push("nobody went on before all was as it was".to_string());
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_millis(dice.below(1000)));
        } else {
            // Longer than detection takes, so that the arbiter is asked.
            std::thread::sleep(Duration::from_millis(4000 + dice.below(3000)));
        }
        let healed = now_ns();
        // Some hear each other again before the arbiter hears them.
        let link_first = dice.below(2) == 0;
        if cut && link_first {
            c.net.link(true)?;
            std::thread::sleep(Duration::from_millis(dice.below(500)));
        }
        let rules = self.rules();
        for (side, rule) in rules {
            c.etcd()?.rule(side, Rule::Pass);
            if rule == Rule::Hold && c.etcd()?.met(side) == 0 {
                wrong.push("the primary asked nothing: the trial shows nothing".to_string());
            }
        }
        if self.relayed()
            && rules
                .iter()
                .all(|(side, _)| c.etcd().map_or(0, |e| e.met(*side)) == 0)
        {
            wrong.push("the relay had nothing to do: the trial shows nothing".to_string());
        }
        if let Some((side, direction)) = self.cut() {
            c.etcd_passes(side, direction, true)?;
        }
        if cut && !link_first {
            std::thread::sleep(Duration::from_millis(dice.below(500)));
            c.net.link(true)?;
        }
        Ok(Story {
            way: self,
            at,
            healed,
        })
    }
}

/// What the backup had acknowledged may leave for so long; detection takes longer.
const SETTLES: Duration = Duration::from_secs(1);

impl Story {
    /// Of the times of all answers, ns: what must not be.
    pub fn judge(&self, times: &[u64], moved: bool) -> Option<String> {
        let from = self.at + SETTLES.as_nanos() as u64;
        let early = times.iter().filter(|t| (from..self.healed).contains(t)).count();
        let silent = match self.way.meanwhile() {
            Meanwhile::Silent => true,
            Meanwhile::GoesOn => false,
            Meanwhile::MovedOrSilent => !moved,
        };
        match (silent, early) {
            (true, 1..) => Some(format!(
                "{early} answers while the arbiter could have told nobody"
            )),
            (false, 0) => Some("nobody answered while one side could ask and hear the arbiter".to_string()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_going_on_are_told_apart() {
        let second = 1_000_000_000;
        let judge = |way, times: &[u64], moved| {
            let (at, healed) = (10 * second, 15 * second);
            Story { way, at, healed }.judge(times, moved).is_none()
        };
        let (silent, early) = ([10 * second + 5, 15 * second], [10 * second + 5, 13 * second]);
        for (way, moved, good) in [
            (Way::UnaskedAlone, false, [true, false]),
            (Way::UnansweredKill, true, [true, false]),
            (Way::Unasked, true, [false, true]),
            (Way::Unanswered, true, [false, true]),
            (Way::Unanswered, false, [true, false]),
        ] {
            assert_eq!(
                [judge(way, &silent, moved), judge(way, &early, moved)],
                good,
                "{way:?}"
            );
        }
    }
}
