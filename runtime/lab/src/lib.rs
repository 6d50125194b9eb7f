//! Several hosts on one machine, for `ftvm demo` and for the fault campaign (`ci/faults`).
//!
//! * [`net`]: network namespaces with veth pairs and a bridge, made by [`netlink`]; no root is needed.
//! * [`cluster`]: an agent and a protected image on two of the hosts, and what can befall them.
//! * [`etcd`]: one as arbiter, which can be heard without being asked, or asked without being heard.
//! * [`fleet`]: nodes of `ftvm node join`, members of an etcd, apps on them.
//! * [`relay`]: a way to the agent that can be reset.
//! * [`load`]: clients on the third, which check every answer; [`speak`] has the protocols.
//! * [`idle`]: connections that are open and not used.
//! * [`pgbench`]: the same for PostgreSQL, by its own clients.
//! * [`history`]: was what the clients saw of a register possible for one register?
//! * [`watch`]: who answered, from the frames on the bridge.
//!
//! It meets `ftvm` only as a command.

pub mod cluster;
pub mod etcd;
pub mod fleet;
pub mod history;
pub mod idle;
pub mod load;
pub mod long;
pub mod net;
pub mod netlink;
pub mod own_net;
pub mod pgbench;
pub mod relay;
pub mod speak;
pub mod watch;

/// A small generator of numbers from a seed (splitmix64): trials are repeated by their seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }
}

/// Nanoseconds of the machine's monotonic clock, which all hosts here share.
pub fn now_ns() -> u64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid pointer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// CPU time of all children that were waited for (and of theirs), s, and the largest resident set of one process of
/// them, KiB: `getrusage(RUSAGE_CHILDREN)`.
pub fn children_used() -> std::io::Result<(f64, u64)> {
    let mut u = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the structure that it is given.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, u.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: it was filled, and zero before.
    let u = unsafe { u.assume_init() };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    Ok((seconds(u.ru_utime) + seconds(u.ru_stime), u.ru_maxrss as u64))
}
