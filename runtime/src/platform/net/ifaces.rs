//! The host's interfaces, by ioctls and /proc/net: nothing here allocates outside our own arenas,
//! as getifaddrs(3) would.

use super::sys;
use crate::sys::sys as call;
use ftl_core::hostnet::Interface;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

/// IFF_LOOPBACK
const IFF_LOOPBACK: u32 = 8;
/// sizeof(struct ifreq), offset of its union.
const IFREQ: usize = 40;
const UNION: usize = 16;
/// RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_HOST
const SCOPES: [u8; 3] = [0, 253, 254];

fn ask(fd: &OwnedFd, name: &[u8], cmd: u64) -> Option<[u8; IFREQ]> {
    let mut req = [0u8; IFREQ];
    let n = name.len().min(UNION - 1);
    req[..n].copy_from_slice(&name[..n]);
    // SAFETY: these commands read and write one struct ifreq.
    unsafe { call!(libc::SYS_ioctl, fd.as_raw_fd(), cmd, req.as_mut_ptr()) }.ok()?;
    Some(req)
}

fn word(req: &[u8; IFREQ]) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|k| req[UNION + k]))
}

/// All interfaces by index.
pub fn interfaces() -> Vec<Interface> {
    const SIOCGIFFLAGS: u64 = 0x8913;
    const SIOCGIFMTU: u64 = 0x8921;
    const SIOCGIFHWADDR: u64 = 0x8927;
    const SIOCGIFINDEX: u64 = 0x8933;
    let Ok(fd) = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) else {
        return Vec::new();
    };
    let mut found: BTreeMap<u32, Interface> = BTreeMap::new();
    let text = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    for line in text.lines().skip(2) {
        let Some((name, _)) = line.split_once(':') else {
            continue;
        };
        let name = name.trim().as_bytes();
        let Some(index) = ask(&fd, name, SIOCGIFINDEX).map(|r| word(&r)) else {
            continue;
        };
        let hw = ask(&fd, name, SIOCGIFHWADDR).unwrap_or([0; IFREQ]);
        let entry = Interface {
            index,
            name: name.to_vec(),
            flags: ask(&fd, name, SIOCGIFFLAGS).map_or(0, |r| word(&r) & 0xffff),
            kind: word(&hw) as u16,
            mtu: ask(&fd, name, SIOCGIFMTU).map_or(1500, |r| word(&r)),
            mac: hw[UNION + 2..UNION + 8].to_vec(),
            ..Interface::default()
        };
        found.insert(index, entry);
    }
    add_v4(&fd, &mut found);
    add_v6(&mut found);
    for i in found.values_mut() {
        // IPv4 first, then by scope, as a dump of addresses has them.
        i.addrs.sort_by_key(|(a, _, scope)| (a.len(), *scope));
    }
    for (name, gateway) in gateways() {
        if let Some(i) = found.values_mut().find(|i| i.name == name) {
            i.gateway = Some(gateway.to_vec());
        }
    }
    found.into_values().collect()
}

/// SIOCGIFCONF: every IPv4 address with the name (and label) that it has.
fn add_v4(fd: &OwnedFd, found: &mut BTreeMap<u32, Interface>) {
    const SIOCGIFCONF: u64 = 0x8912;
    const SIOCGIFNETMASK: u64 = 0x891b;
    #[repr(C)]
    struct IfConf {
        len: i32,
        buf: *mut u8,
    }
    let mut buf = vec![0u8; 64 * IFREQ];
    let mut conf = IfConf {
        len: buf.len() as i32,
        buf: buf.as_mut_ptr(),
    };
    // SAFETY: the structure tells the buffer's address and length; both outlive the call.
    if unsafe { call!(libc::SYS_ioctl, fd.as_raw_fd(), SIOCGIFCONF, &raw mut conf) }.is_err() {
        return;
    }
    for req in buf[..conf.len.max(0) as usize].chunks_exact(IFREQ) {
        let label = req[..UNION].split(|&b| b == 0).next().unwrap_or(&[]);
        let name = label.split(|&b| b == b':').next().unwrap_or(&[]);
        let mask = ask(fd, label, SIOCGIFNETMASK).unwrap_or([255; IFREQ]);
        let prefix = mask[UNION + 4..UNION + 8]
            .iter()
            .map(|b| b.count_ones() as u8)
            .sum();
        if let Some(i) = found.values_mut().find(|i| i.name == name) {
            let scope = if i.flags & IFF_LOOPBACK != 0 {
                SCOPES[2]
            } else {
                SCOPES[0]
            };
            i.addrs.push((req[UNION + 4..UNION + 8].to_vec(), prefix, scope));
        }
    }
}

/// /proc/net/if_inet6: address, index, prefix, scope, flags, name; numbers in hexadecimal.
fn add_v6(found: &mut BTreeMap<u32, Interface>) {
    let text = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    for line in text.lines() {
        let f: Vec<&str> = line.split_whitespace().collect();
        if f.len() < 6 {
            continue;
        }
        let num = |i: usize| u32::from_str_radix(f[i], 16);
        let (Ok(addr), Ok(index), Ok(prefix), Ok(scope)) =
            (u128::from_str_radix(f[0], 16), num(1), num(2), num(3))
        else {
            continue;
        };
        // IPV6_ADDR_LOOPBACK, IPV6_ADDR_LINKLOCAL
        let scope = match scope {
            0x10 => SCOPES[2],
            0x20 => SCOPES[1],
            _ => SCOPES[0],
        };
        if let Some(i) = found.get_mut(&index) {
            i.addrs.push((addr.to_be_bytes().to_vec(), prefix as u8, scope));
        }
    }
}

/// Default routes: interface and gateway.
fn gateways() -> Vec<(Vec<u8>, [u8; 4])> {
    let text = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mut out = Vec::new();
    for line in text.lines().skip(1) {
        let f: Vec<&str> = line.split_whitespace().collect();
        let (Some(name), Some(&"00000000"), Some(gw)) = (f.first(), f.get(1), f.get(2)) else {
            continue;
        };
        if let Ok(gw) = u32::from_str_radix(gw, 16) {
            out.push((name.as_bytes().to_vec(), gw.to_ne_bytes()));
        }
    }
    out
}
