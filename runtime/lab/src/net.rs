//! Three hosts as network namespaces: a client, A and B on one bridge, and a link of its own between A and B.
//!
//! ```text
//! client eth0 ── sw-client ┐
//! A      eth0 ── sw-a      ├ bridge br0, in the caller's namespace
//! B      eth0 ── sw-b      ┘
//! A     link0 ── link0 B
//! ```

use crate::cluster::Side;
use crate::netlink;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Where the clients are.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// A and B on the bridge.
pub const A_BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// See [`A_BRIDGE`].
pub const B_BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
/// Where clients find the image.
pub const IMAGE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// The bridge's network.
pub const PREFIX: u8 = 24;
/// A and B on the link between them.
pub const A_LINK: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
/// See [`A_LINK`].
pub const B_LINK: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 3);

/// No interface has this address.
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 0xdd];
/// How long a packet may take.
const PROBE: Duration = Duration::from_millis(300);

/// What to say where namespaces cannot be had.
const NEEDS: &str = "needs network namespaces: root, or user namespaces for everybody \
                     (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0, \
                     user.max_user_namespaces above 0; a container may need --privileged)";

/// Puts the calling process, which has one thread, into network and mount namespaces of its own; without root,
/// into a user namespace in which it is root.
pub fn enter() -> Result<(), String> {
    let needs = |e: io::Error| format!("{NEEDS}: {e}");
    // SAFETY: plain calls.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let own = libc::CLONE_NEWNET | libc::CLONE_NEWNS;
    // SAFETY: the caller has one thread; nothing it holds changes its meaning.
    let as_root = uid == 0 && unsafe { libc::unshare(own) } == 0;
    if !as_root {
        // SAFETY: as above.
        if unsafe { libc::unshare(own | libc::CLONE_NEWUSER) } != 0 {
            return Err(needs(io::Error::last_os_error()));
        }
        // Kernels before 3.19 have no such file.
        let _ = fs::write("/proc/self/setgroups", "deny");
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(needs)?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(needs)?;
    }
    private_mounts().map_err(needs)?;
    netlink::set_up("lo", true).map_err(needs)
}

/// Mounts made from here on are seen by nobody else.
fn private_mounts() -> io::Result<()> {
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: a valid path.
    match unsafe {
        libc::mount(
            c"none".as_ptr(),
            c"/".as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A host: its network namespace.
#[derive(Debug)]
pub struct Host {
    namespace: OwnedFd,
    name: String,
}

impl Host {
    fn new(name: &str) -> io::Result<Host> {
        let namespace = std::thread::spawn(|| -> io::Result<OwnedFd> {
            // SAFETY: this thread only, which ends.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            netlink::set_up("lo", true)?;
            Ok(fs::File::open("/proc/thread-self/ns/net")?.into())
        });
        let namespace = namespace
            .join()
            .map_err(|_| io::Error::other("a thread ended"))??;
        let name = name.to_string();
        Ok(Host { namespace, name })
    }

    /// A host with an address on the bridge; the caller is in the namespace of the bridge.
    pub fn on_bridge(name: &str, ip: Ipv4Addr) -> io::Result<Host> {
        let host = Host::new(name)?;
        host.plug(ip)?;
        Ok(host)
    }

    fn plug(&self, ip: Ipv4Addr) -> io::Result<()> {
        netlink::veth([(&self.port(), None), ("eth0", Some(self.namespace.as_fd()))])?;
        netlink::enslave(&self.port(), "br0")?;
        netlink::set_up(&self.port(), true)?;
        self.within(|| {
            netlink::address("eth0", ip, PREFIX)?;
            netlink::set_up("eth0", true)
        })
    }

    /// Plugs its cable to the bridge in or out.
    pub fn cable(&self, up: bool) -> io::Result<()> {
        netlink::set_up(&self.port(), up)
    }

    /// Moves its cable to another bridge.
    pub fn move_to(&self, bridge: &str) -> io::Result<()> {
        netlink::enslave(&self.port(), bridge)
    }

    /// Every process that is in its namespace, whoever started it there.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let own = fs::File::from(self.namespace.try_clone()?).metadata()?;
        let same = |pid: &i32| {
            let at = fs::metadata(format!("/proc/{pid}/ns/net"));
            at.is_ok_and(|m| (m.dev(), m.ino()) == (own.dev(), own.ino()))
        };
        let names = fs::read_dir("/proc")?.flatten().map(|e| e.file_name());
        let pids = names.filter_map(|n| n.to_str()?.parse::<i32>().ok());
        Ok(pids.filter(same).collect())
    }

    /// Moves the calling thread there for good. Calls nothing but the kernel: also for a child before exec.
    pub fn enter(&self) -> io::Result<()> {
        // SAFETY: a valid descriptor.
        match unsafe { libc::setns(self.namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Does something there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        std::thread::scope(|s| {
            let done = s.spawn(|| {
                self.enter()?;
                work()
            });
            done.join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread ended")))
        })
    }

    /// The same host, for a thread of its own.
    pub fn copy(&self) -> io::Result<Host> {
        Ok(Host {
            namespace: self.namespace.try_clone()?,
            name: self.name.clone(),
        })
    }

    /// Its namespace's descriptor.
    pub fn fd(&self) -> i32 {
        self.namespace.as_raw_fd()
    }

    /// The bridge's port for it, in the caller's namespace.
    pub fn port(&self) -> String {
        format!("sw-{}", self.name)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Network {
    /// Where the clients are.
    pub client: Host,
    /// Where the image starts.
    pub a: Host,
    /// Where its backup is.
    pub b: Host,
}

impl Network {
    /// Makes it all. The caller is in a namespace of its own ([`enter`]), which is the switch.
    pub fn build() -> Result<Network, String> {
        Network::try_build().map_err(|e| match e.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => format!("{NEEDS}: {e}"),
            _ => format!("making the network: {e}"),
        })
    }

    fn try_build() -> io::Result<Network> {
        let net = Network {
            client: Host::new("client")?,
            a: Host::new("a")?,
            b: Host::new("b")?,
        };
        bridge("br0")?;
        for (n, host) in [&net.client, &net.a, &net.b].into_iter().enumerate() {
            host.plug(Ipv4Addr::new(10, 77, 0, n as u8 + 1))?;
        }
        let ends = [
            ("link0", net.a.namespace.as_fd()),
            ("link0", net.b.namespace.as_fd()),
        ];
        netlink::veth(ends.map(|(name, fd)| (name, Some(fd))))?;
        for (host, ip) in [(&net.a, A_LINK), (&net.b, B_LINK)] {
            host.within(|| {
                netlink::address("link0", ip, PREFIX)?;
                netlink::set_up("link0", true)
            })?;
        }
        Ok(net)
    }

    /// Plugs the link between A and B in or out.
    pub fn link(&self, up: bool) -> io::Result<()> {
        self.b.within(|| netlink::set_up("link0", up))
    }

    /// Packets on the link between A and B get from this side to the other, or [`vanish`] there.
    pub fn link_from(&self, side: Side, passes: bool) -> io::Result<()> {
        let (host, peer, _) = self.direction(side);
        vanish(host, "link0", peer, !passes)
    }

    /// A packet gets over the link from this side to the other now. Where that is `expected`, it is waited for longer.
    pub fn link_passes(&self, side: Side, expected: bool) -> io::Result<bool> {
        passes(self.direction(side), expected)
    }

    /// Who sends, the address that it sends to, and who has that.
    fn direction(&self, from: Side) -> (&Host, Ipv4Addr, &Host) {
        match from {
            Side::A => (&self.a, B_LINK, &self.b),
            Side::B => (&self.b, A_LINK, &self.a),
        }
    }

    /// Plugs a host's cable to the bridge in or out.
    pub fn cable(&self, host: &Host, up: bool) -> io::Result<()> {
        host.cable(up)
    }
}

/// What a host sends to an address by one of its interfaces vanishes from now on, or does not: the sender is told nothing. It goes
/// to a station that does not exist, so this needs no module of a kernel. The other direction is as it was.
pub fn vanish(from: &Host, interface: &str, to: Ipv4Addr, vanishes: bool) -> io::Result<()> {
    from.within(|| netlink::neighbour(interface, to, vanishes.then_some(NOBODY)))
}

/// A packet gets from a host to an address of another one now. Where that is `expected`, it is waited for longer.
pub fn passes((from, to, receiver): (&Host, Ipv4Addr, &Host), expected: bool) -> io::Result<bool> {
    let socket = receiver.within(|| UdpSocket::bind((to, 0)))?;
    // That nothing comes takes a while to say; what comes may take as long as it likes.
    let patience = if expected { Duration::from_secs(10) } else { PROBE };
    socket.set_read_timeout(Some(patience))?;
    let port = socket.local_addr()?.port();
    from.within(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"probe", (to, port)))?;
    match socket.recv(&mut [0; 8]) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e),
    }
}

/// Makes a bridge in the caller's namespace.
pub fn bridge(name: &str) -> io::Result<()> {
    netlink::bridge(name)?;
    netlink::set_up(name, true)
}
