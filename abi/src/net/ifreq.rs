//! The interfaces that the image sees, and the SIOCGIF* ioctls (netdevice(7)).

use super::inet::Inet;
use ftl_core::errno::Errno;
use ftl_core::hostnet::Interface;
use ftl_core::io::{Io, err};
use ftl_core::kcore::Env;
use ftl_core::socket::num;

/// IFF_UP | IFF_LOOPBACK | IFF_RUNNING | IFF_LOWER_UP
const LO_FLAGS: u32 = 0x1_0049;
/// IFF_BROADCAST
pub const IFF_BROADCAST: u32 = 2;
/// ARPHRD_LOOPBACK
const ARPHRD_LOOPBACK: u16 = 772;
/// sizeof(struct ifreq), offset of its union.
const IFREQ: usize = 40;
const UNION: usize = 16;

/// The host's interfaces, or under `--net none` a loopback. A query.
pub fn interfaces(env: &mut Env<'_>, inet: &Inet) -> Vec<Interface> {
    if inet.host(env)
        && let Some(list) = env.plat.net_interfaces()
    {
        return list;
    }
    let mut v6 = vec![0; 16];
    v6[15] = 1;
    let mut list = vec![Interface {
        index: 1,
        name: b"lo".to_vec(),
        flags: LO_FLAGS,
        kind: ARPHRD_LOOPBACK,
        mtu: 65_536,
        mac: vec![0; 6],
        addrs: vec![(vec![127, 0, 0, 1], 8, 254), (v6, 128, 254)],
        gateway: None,
    }];
    list.extend(inet.own.as_ref().map(|o| o.interface()));
    list
}

/// The mask of an IPv4 prefix.
pub fn netmask(prefix: u8) -> [u8; 4] {
    let bits = u32::from(prefix.min(32));
    (!(u32::MAX.checked_shr(bits).unwrap_or(0))).to_be_bytes()
}

/// The broadcast address of an IPv4 network.
pub fn broadcast(addr: &[u8], prefix: u8) -> [u8; 4] {
    let mask = netmask(prefix);
    std::array::from_fn(|i| addr[i] | !mask[i])
}

fn v4(i: &Interface) -> Option<(&[u8], u8)> {
    i.addrs
        .iter()
        .find(|(a, ..)| a.len() == 4)
        .map(|(a, p, _)| (a.as_slice(), *p))
}

fn sockaddr(addr: &[u8]) -> Vec<u8> {
    let mut v = (num::AF_INET as u16).to_le_bytes().to_vec();
    v.extend_from_slice(&[0, 0]);
    v.extend_from_slice(addr);
    v.resize(16, 0);
    v
}

fn answer(i: &Interface, cmd: u64) -> Io<Vec<u8>> {
    const GIFFLAGS: u64 = 0x8913;
    const GIFADDR: u64 = 0x8915;
    const GIFDSTADDR: u64 = 0x8917;
    const GIFBRDADDR: u64 = 0x8919;
    const GIFNETMASK: u64 = 0x891b;
    const GIFMETRIC: u64 = 0x891d;
    const GIFMTU: u64 = 0x8921;
    const GIFHWADDR: u64 = 0x8927;
    const GIFINDEX: u64 = 0x8933;
    const GIFTXQLEN: u64 = 0x8942;
    if (GIFADDR..=GIFNETMASK).contains(&cmd) {
        let Some((addr, prefix)) = v4(i) else {
            return err(Errno::EADDRNOTAVAIL);
        };
        return Ok(match cmd {
            GIFADDR | GIFDSTADDR => sockaddr(addr),
            GIFBRDADDR if i.flags & IFF_BROADCAST != 0 => sockaddr(&broadcast(addr, prefix)),
            GIFBRDADDR => sockaddr(&[0; 4]),
            _ => sockaddr(&netmask(prefix)),
        });
    }
    Ok(match cmd {
        GIFFLAGS => (i.flags as u16).to_le_bytes().to_vec(),
        GIFMETRIC => vec![0; 4],
        GIFMTU => i.mtu.to_le_bytes().to_vec(),
        GIFINDEX => i.index.to_le_bytes().to_vec(),
        GIFTXQLEN => 1000u32.to_le_bytes().to_vec(),
        GIFHWADDR => {
            let mut v = i.kind.to_le_bytes().to_vec();
            v.extend_from_slice(&i.mac);
            v.resize(16, 0);
            v
        }
        _ => return err(Errno::ENOTTY),
    })
}

/// SIOCGIFCONF: struct ifconf { int len; char *buf; }
fn list(env: &mut Env<'_>, all: &[Interface], arg: u64) -> Io<u64> {
    let room: i32 = env.get(arg)?;
    let at: u64 = env.get(arg + 8)?;
    let mut out = Vec::new();
    for i in all {
        for (a, ..) in i.addrs.iter().filter(|(a, ..)| a.len() == 4) {
            let start = out.len();
            out.extend_from_slice(&i.name[..i.name.len().min(15)]);
            out.resize(start + UNION, 0);
            out.extend_from_slice(&sockaddr(a));
            out.resize(start + IFREQ, 0);
        }
    }
    if at != 0 {
        let fits = out.len().min(room.max(0) as usize) / IFREQ * IFREQ;
        env.write(at, &out[..fits])?;
        out.truncate(fits);
    }
    env.put(arg, &(out.len() as i32))?;
    Ok(0)
}

/// One of the requests of netdevice(7).
pub fn is_interface(cmd: u32) -> bool {
    (0x8910..=0x8990).contains(&cmd)
}

/// A request of netdevice(7) on any socket.
pub fn ioctl(env: &mut Env<'_>, inet: &Inet, cmd: u64, arg: u64) -> Io<u64> {
    const GIFNAME: u64 = 0x8910;
    const GIFCONF: u64 = 0x8912;
    let all = interfaces(env, inet);
    if cmd == GIFCONF {
        return list(env, &all, arg);
    }
    let mut req = [0u8; IFREQ];
    env.read(arg, &mut req)?;
    if cmd == GIFNAME {
        let index = u32::from_le_bytes(std::array::from_fn(|k| req[UNION + k]));
        let Some(i) = all.iter().find(|i| i.index == index) else {
            return err(Errno::ENODEV);
        };
        let mut name = i.name[..i.name.len().min(15)].to_vec();
        name.resize(UNION, 0);
        env.write(arg, &name)?;
        return Ok(0);
    }
    // Requests that set something have even numbers here.
    if cmd & 1 == 0 && cmd != 0x8942 {
        return err(Errno::EPERM);
    }
    let len = req[..UNION].iter().position(|&b| b == 0).unwrap_or(UNION - 1);
    let name = req[..len].split(|&b| b == b':').next().unwrap_or(&[]);
    let Some(i) = all.iter().find(|i| i.name == name) else {
        return err(Errno::ENODEV);
    };
    let v = answer(i, cmd)?;
    env.write(arg + UNION as u64, &v)?;
    Ok(0)
}
