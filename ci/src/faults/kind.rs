//! What can happen, and what has to come of it.

use super::{TEN, Way};

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// kill -9 of every process of the primary.
    Kill,
    /// The primary's host loses all its cables for a while.
    Unplug,
    /// SIGSTOP of every process of the primary, SIGCONT seconds later.
    Freeze,
    /// kill -9 of the backup and its agent.
    Backup,
    /// Nobody reaches the arbiter for a while; then the primary is killed.
    Arbiter,
    /// The link between primary and backup is cut: whoever is first at the arbiter goes on.
    Link,
    /// That link and the primary's way to the arbiter are cut; clients still reach both hosts.
    Partition,
    /// That link and everybody's way to the arbiter are cut for a while: nobody may answer.
    Both,
    /// That link is cut and the arbiter's answers come late, when the questions are given up: they count all the same.
    Late,
    /// What the primary sends on that link vanishes for a while, what the backup sends arrives: whoever is first at the arbiter goes on.
    Mute,
    /// The other way round: the primary is heard and does not hear.
    Deaf,
    /// [`Fault::Mute`], and the primary does not reach the arbiter.
    MuteCut,
    /// [`Fault::Deaf`], and the backup does not reach the arbiter.
    DeafCut,
    /// The connection between primary and backup is reset, both stay; later the primary is killed.
    Reset,
    /// The primary is killed, a new backup attached where it was, and the new primary is killed.
    Twice,
    /// No fault: the image is handed over.
    Switchover,
    /// The image writes to so much memory at once that its next snapshot takes long; later the primary is killed.
    Bulk,
    /// The primary is killed and replaced, ten times in a row.
    Ten,
    /// The primary is killed while a thousand connections are served.
    Crowd,
    /// The primary is killed while ten thousand connections are open, of which nearly all are idle; then each is used.
    Idle,
    /// The primary is killed in the middle of a download of 1 GiB.
    Download,
    /// The primary is killed in the middle of a `redis-cli --pipe`.
    Pipe,
    /// The primary is killed while the backup is given orders: before, while it replays, and behind that.
    Orders,
    /// As [`Fault::Twice`], of an image with a root of its own (`run --image`): it is in the store of the first host only, and a
    /// host that is killed loses its store.
    Disk,
    /// As [`Fault::Twice`], of an nginx whose page is a file that only the first host has, and which goes with it; its program is replaced at the
    /// backup's host before that takes over.
    Files,
    /// As [`Fault::Disk`], but the root is a directory of the first host's (`run --rootfs`), which is frozen at the start.
    Rootfs,
    /// One direction of a way to the arbiter, and what makes the arbiter matter.
    Way(Way),
}

impl Fault {
    /// The root is in the store of the first host only, and goes with it.
    pub(super) fn packed(self) -> bool {
        matches!(self, Fault::Disk | Fault::Rootfs)
    }
}

/// Who has to answer in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The primary.
    Stays,
    /// The backup.
    Moves,
    /// One of them.
    Either,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 38] = [
        Fault::Kill,
        Fault::Unplug,
        Fault::Freeze,
        Fault::Backup,
        Fault::Arbiter,
        Fault::Link,
        Fault::Partition,
        Fault::Both,
        Fault::Late,
        Fault::Reset,
        Fault::Twice,
        Fault::Switchover,
        Fault::Bulk,
        Fault::Ten,
        Fault::Crowd,
        Fault::Download,
        Fault::Pipe,
        Fault::Disk,
        Fault::Orders,
        Fault::Mute,
        Fault::Deaf,
        Fault::MuteCut,
        Fault::DeafCut,
        Fault::Idle,
        Fault::Files,
        Fault::Rootfs,
        Fault::Way(Way::Unasked),
        Fault::Way(Way::Unanswered),
        Fault::Way(Way::UnaskedBackup),
        Fault::Way(Way::UnansweredBackup),
        Fault::Way(Way::UnaskedAlone),
        Fault::Way(Way::UnansweredAlone),
        Fault::Way(Way::UnaskedKill),
        Fault::Way(Way::UnansweredKill),
        Fault::Way(Way::SwapsUnanswered),
        Fault::Way(Way::SwapsUnansweredKill),
        Fault::Way(Way::Slow),
        Fault::Way(Way::Stale),
    ];

    /// As on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Unplug => "unplug",
            Fault::Freeze => "freeze",
            Fault::Backup => "backup",
            Fault::Arbiter => "arbiter",
            Fault::Link => "link",
            Fault::Partition => "partition",
            Fault::Both => "both",
            Fault::Late => "late",
            Fault::Reset => "reset",
            Fault::Twice => "twice",
            Fault::Switchover => "switchover",
            Fault::Bulk => "bulk",
            Fault::Ten => "ten",
            Fault::Crowd => "crowd",
            Fault::Download => "download",
            Fault::Pipe => "pipe",
            Fault::Disk => "disk",
            Fault::Files => "files",
            Fault::Rootfs => "rootfs",
            Fault::Orders => "orders",
            Fault::Mute => "mute",
            Fault::Deaf => "deaf",
            Fault::MuteCut => "mute-cut",
            Fault::DeafCut => "deaf-cut",
            Fault::Idle => "idle",
            Fault::Way(way) => way.name(),
        }
    }

    /// By name.
    pub fn from_name(name: &str) -> Option<Fault> {
        Fault::ALL.into_iter().find(|f| f.name() == name)
    }

    /// While it lasts, one of the two rightly counts as silent for the other.
    pub(super) fn silences(self) -> bool {
        !(self == Fault::Arbiter || self == Fault::Switchover || self.kills_only())
    }

    /// It is a kill, whatever comes before or goes on beside it.
    pub(super) fn kills_only(self) -> bool {
        use Fault::*;
        matches!(
            self,
            Kill | Twice | Bulk | Ten | Crowd | Idle | Download | Pipe | Disk | Files | Rootfs | Orders
        )
    }

    /// It says nothing if the backup has taken over before it, as it may on a busy machine. Detection is what the others are for.
    pub(super) fn needs_primary(self) -> bool {
        use Fault::*;
        self.takeovers_before() > 0
            || matches!(
                self,
                Mute | Deaf
                    | MuteCut
                    | DeafCut
                    | Idle
                    | Orders
                    | Arbiter
                    | Reset
                    | Backup
                    | Switchover
                    | Way(_)
            )
    }

    /// Takeovers before the one that is judged by time.
    pub(super) fn takeovers_before(self) -> usize {
        match self {
            Fault::Twice | Fault::Disk | Fault::Files | Fault::Rootfs => 1,
            Fault::Ten => TEN - 1,
            _ => 0,
        }
    }

    pub(super) fn end(self) -> End {
        match self {
            Fault::Way(way) => way.end(),
            Fault::Backup | Fault::DeafCut => End::Stays,
            Fault::Link | Fault::Both | Fault::Late | Fault::Mute | Fault::Deaf => End::Either,
            _ => End::Moves,
        }
    }
}
