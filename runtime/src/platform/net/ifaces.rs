//! The host's interfaces, as getifaddrs(3) and /proc/net/route tell them.

use ftl_core::hostnet::Interface;
use std::collections::BTreeMap;
use std::ffi::CStr;

/// IFF_LOOPBACK
const IFF_LOOPBACK: u32 = 8;

/// All interfaces by index.
pub fn interfaces() -> Vec<Interface> {
    let mut found: BTreeMap<u32, Interface> = BTreeMap::new();
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs fills the pointer with a list that freeifaddrs below takes back.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Vec::new();
    }
    let mut at = list;
    while !at.is_null() {
        // SAFETY: `at` is a node of the list, which lives until freeifaddrs.
        let node = unsafe { &*at };
        at = node.ifa_next;
        // SAFETY: ifa_name is a NUL-terminated string of the same list.
        let name = unsafe { CStr::from_ptr(node.ifa_name) };
        // SAFETY: a valid C string.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            continue;
        }
        let entry = found.entry(index).or_insert_with(|| Interface {
            index,
            name: name.to_bytes().to_vec(),
            flags: node.ifa_flags,
            kind: if node.ifa_flags & IFF_LOOPBACK != 0 {
                772
            } else {
                1
            },
            mtu: mtu(name),
            ..Interface::default()
        });
        add_address(entry, node);
    }
    // SAFETY: the list came from getifaddrs and no reference into it is left.
    unsafe { libc::freeifaddrs(list) };
    for (name, gateway) in gateways() {
        if let Some(i) = found.values_mut().find(|i| i.name == name) {
            i.gateway = Some(gateway.to_vec());
        }
    }
    found.into_values().collect()
}

fn add_address(entry: &mut Interface, node: &libc::ifaddrs) {
    if node.ifa_addr.is_null() {
        return;
    }
    // SAFETY: a non-null ifa_addr points to a sockaddr of the family that it names.
    let family = i32::from(unsafe { (*node.ifa_addr).sa_family });
    let loopback = entry.flags & IFF_LOOPBACK != 0;
    match family {
        libc::AF_INET => {
            // SAFETY: the family says sockaddr_in; the netmask, if there, has the same shape.
            let (addr, mask) = unsafe {
                let a = (*node.ifa_addr.cast::<libc::sockaddr_in>()).sin_addr.s_addr;
                let m = node.ifa_netmask.cast::<libc::sockaddr_in>().as_ref();
                (a, m.map_or(u32::MAX, |m| m.sin_addr.s_addr))
            };
            let scope = if loopback { 254 } else { 0 };
            entry
                .addrs
                .push((addr.to_ne_bytes().to_vec(), mask.count_ones() as u8, scope));
        }
        libc::AF_INET6 => {
            // SAFETY: as above, with sockaddr_in6.
            let (addr, mask) = unsafe {
                let a = (*node.ifa_addr.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr;
                let m = node.ifa_netmask.cast::<libc::sockaddr_in6>().as_ref();
                (a, m.map_or([255; 16], |m| m.sin6_addr.s6_addr))
            };
            let link_local = addr[0] == 0xfe && addr[1] & 0xc0 == 0x80;
            let scope = if loopback {
                254
            } else if link_local {
                253
            } else {
                0
            };
            let prefix = mask.iter().map(|b| b.count_ones() as u8).sum();
            entry.addrs.push((addr.to_vec(), prefix, scope));
        }
        libc::AF_PACKET => {
            // SAFETY: the family says sockaddr_ll.
            let ll = unsafe { &*node.ifa_addr.cast::<libc::sockaddr_ll>() };
            entry.kind = ll.sll_hatype;
            entry.mac = ll.sll_addr[..usize::from(ll.sll_halen).min(8)].to_vec();
        }
        _ => {}
    }
}

fn mtu(name: &CStr) -> u32 {
    let path = format!("/sys/class/net/{}/mtu", name.to_string_lossy());
    std::fs::read_to_string(path)
        .ok()
        .and_then(|s| s.trim().parse().ok())
        .unwrap_or(1500)
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
