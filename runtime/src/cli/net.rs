//! `--net`: the network that the program sees.

use super::options::Wrong;
use crate::platform::net::nic;
use ftl_abi::kernel::NetConfig;
use std::net::IpAddr;

/// What was chosen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// The host's.
    Host,
    /// A loopback, nothing else.
    None,
    /// An interface of its own.
    Own {
        /// The host interface that it uses.
        interface: String,
        /// Addresses with the length of their prefix.
        addrs: Vec<(IpAddr, u8)>,
        /// Routers.
        gateways: Vec<IpAddr>,
        /// Link-layer address; by default it follows from the first address.
        mac: Option<[u8; 6]>,
    },
}

/// Smallest and largest MTU that the stack uses: what IPv6 needs, what a frame can hold.
const MTU: std::ops::RangeInclusive<usize> = 1280..=65_000;

/// Parses the option's value.
pub fn parse(text: &str) -> Result<Choice, Wrong> {
    match text {
        "host" => return Ok(Choice::Host),
        "none" => return Ok(Choice::None),
        _ => {}
    }
    let mut parts = text.split(',');
    let interface = parts.next().unwrap_or_default().to_string();
    let form = "write host, none, or INTERFACE,ip=ADDRESS/LENGTH[,gw=ADDRESS][,mac=MAC]";
    if interface.is_empty() || interface.len() > 15 || interface.contains(['/', '=', ' ']) {
        return Err(format!("{interface:?} is not an interface: {form}"));
    }
    let (mut addrs, mut gateways, mut mac) = (Vec::new(), Vec::new(), None);
    for part in parts {
        match part.split_once('=') {
            Some(("ip", v)) => addrs.push(address(v)?),
            Some(("gw", v)) => {
                let ip: IpAddr = v.parse().map_err(|_| format!("gw={v} is not an address"))?;
                gateways.push(ip);
            }
            Some(("mac", v)) => mac = Some(mac_address(v)?),
            _ => return Err(format!("{part:?} is not known: {form}")),
        }
    }
    if addrs.is_empty() {
        return Err(format!("{text:?} gives the image no address: {form}"));
    }
    for gw in &gateways {
        let twice = gateways.iter().filter(|g| g.is_ipv4() == gw.is_ipv4()).count() > 1;
        let mut c = NetConfig::new([0; 6], 0);
        c.addrs.clone_from(&addrs);
        if twice || !c.on_link(*gw) {
            return Err(format!(
                "gw={gw}: one router of a family, on the network of one of the addresses"
            ));
        }
    }
    Ok(Choice::Own {
        interface,
        addrs,
        gateways,
        mac,
    })
}

fn address(text: &str) -> Result<(IpAddr, u8), Wrong> {
    let wrong = || format!("ip={text} is not an address with the length of its prefix, as in 10.0.0.100/24");
    let (ip, len) = text.split_once('/').ok_or_else(wrong)?;
    let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
    let len: u8 = len.parse().map_err(|_| wrong())?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    if len == 0 || len > most || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() {
        return Err(wrong());
    }
    Ok((ip, len))
}

fn mac_address(text: &str) -> Result<[u8; 6], Wrong> {
    let wrong = || format!("mac={text} is not the MAC address of one host, as in 02:00:00:00:00:01");
    let bytes: Vec<u8> = text
        .split(':')
        .map(|b| u8::from_str_radix(b, 16).map_err(|_| wrong()))
        .collect::<Result<_, _>>()?;
    let mac: [u8; 6] = bytes.try_into().map_err(|_| wrong())?;
    if mac[0] & 1 != 0 || mac == [0; 6] {
        return Err(wrong());
    }
    Ok(mac)
}

/// The image's interface, if it has one of its own. Asks the host for the link's MTU.
pub fn config(choice: &Choice) -> Result<Option<NetConfig>, Wrong> {
    let Choice::Own {
        interface,
        addrs,
        gateways,
        mac,
    } = choice
    else {
        return Ok(None);
    };
    let (_, mtu) = nic::look_up(interface)?;
    let first = addrs[0].0;
    let mut c = NetConfig::new(mac.unwrap_or_else(|| NetConfig::mac_for(first)), mtu);
    c.mtu = mtu.clamp(*MTU.start(), *MTU.end());
    c.addrs.clone_from(addrs);
    c.gateways.clone_from(gateways);
    Ok(Some(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(parse("host"), Ok(Choice::Host));
        assert_eq!(parse("none"), Ok(Choice::None));
        let all = parse("eth0,ip=10.0.0.100/24,ip=fd00::1/64,gw=10.0.0.1,mac=02:00:00:00:00:aa").unwrap();
        let Choice::Own {
            addrs,
            gateways,
            mac,
            interface,
        } = all
        else {
            panic!("{all:?}")
        };
        assert_eq!((interface.as_str(), addrs.len(), gateways.len()), ("eth0", 2, 1));
        assert_eq!(mac, Some([2, 0, 0, 0, 0, 0xaa]));
    }

    #[test]
    fn wrong_values_say_what_is_right() {
        for (bad, says) in [
            ("eth0", "no address"),
            ("", "not an interface"),
            ("eth0,ip=10.0.0.1", "10.0.0.100/24"),
            ("eth0,ip=10.0.0.1/33", "10.0.0.100/24"),
            ("eth0,ip=127.0.0.1/8", "10.0.0.100/24"),
            ("eth0,ip=10.0.0.1/24,gw=10.1.0.1", "on the network"),
            (
                "eth0,ip=10.0.0.1/24,mac=01:00:00:00:00:00",
                "MAC address of one host",
            ),
            ("eth0,ip=10.0.0.1/24,mtu=9", "not known"),
        ] {
            let e = parse(bad).unwrap_err();
            assert!(e.contains(says), "{bad}: {e}");
        }
    }
}
