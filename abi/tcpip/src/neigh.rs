//! Neighbours: who has which address on the link (ARP, neighbour discovery).

use crate::Ns;
use smoltcp::wire::EthernetAddress;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A neighbour that has been quiet for this long is asked again when it is next used.
const FRESH_NS: Ns = 30_000_000_000;
/// Time between two questions.
pub const ASK_NS: Ns = 1_000_000_000;
/// Questions before a neighbour counts as unreachable.
const TRIES: u8 = 3;
/// Frames kept for a neighbour that is being asked for.
const WAITING: usize = 64;
/// Neighbours that are remembered.
const MOST: usize = 4096;

#[derive(Debug)]
struct Entry {
    mac: Option<EthernetAddress>,
    heard: Ns,
    asked: Ns,
    tries: u8,
    waiting: Vec<Vec<u8>>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Neighbours {
    known: BTreeMap<IpAddr, Entry>,
    /// Being asked for.
    open: BTreeMap<IpAddr, ()>,
}

/// What to do with a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// It can go.
    To(EthernetAddress),
    /// It can go, and the neighbour should be asked whether it is still there.
    Check(EthernetAddress),
    /// It waits; ask.
    Ask,
    /// It waits; a question is on its way.
    Wait,
}

impl Neighbours {
    /// The way to a neighbour.
    pub fn way(&mut self, ip: IpAddr, now: Ns) -> Way {
        if let Some(e) = self.known.get_mut(&ip) {
            let Some(mac) = e.mac else {
                return Way::Wait;
            };
            if now.saturating_sub(e.heard) < FRESH_NS || now.saturating_sub(e.asked) < ASK_NS {
                return Way::To(mac);
            }
            e.asked = now;
            e.tries += 1;
            if e.tries <= TRIES {
                return Way::Check(mac);
            }
            e.mac = None;
            e.tries = 1;
            self.open.insert(ip, ());
            return Way::Ask;
        }
        if self.known.len() >= MOST {
            let old = self.known.iter().min_by_key(|(_, e)| e.heard).map(|(ip, _)| *ip);
            if let Some(old) = old {
                self.known.remove(&old);
                self.open.remove(&old);
            }
        }
        let e = Entry {
            mac: None,
            heard: 0,
            asked: now,
            tries: 1,
            waiting: Vec::new(),
        };
        self.known.insert(ip, e);
        self.open.insert(ip, ());
        Way::Ask
    }

    /// Keeps a frame until the neighbour answers; the oldest go first.
    pub fn hold(&mut self, ip: IpAddr, frame: Vec<u8>) {
        if let Some(e) = self.known.get_mut(&ip) {
            if e.waiting.len() >= WAITING {
                e.waiting.remove(0);
            }
            e.waiting.push(frame);
        }
    }

    /// A neighbour has told its address. What waited for it; `only_known`: strangers are not noted.
    pub fn learn(&mut self, ip: IpAddr, mac: EthernetAddress, now: Ns, only_known: bool) -> Vec<Vec<u8>> {
        if !mac.is_unicast() || (only_known && !self.known.contains_key(&ip)) {
            return Vec::new();
        }
        if !self.known.contains_key(&ip) {
            self.way(ip, now);
        }
        self.open.remove(&ip);
        let Some(e) = self.known.get_mut(&ip) else {
            return Vec::new();
        };
        e.mac = Some(mac);
        e.heard = now;
        e.tries = 0;
        std::mem::take(&mut e.waiting)
    }

    /// When the next question is due.
    pub fn deadline(&self) -> Option<Ns> {
        let open = self.open.keys().filter_map(|ip| self.known.get(ip));
        open.map(|e| e.asked.saturating_add(ASK_NS)).min()
    }

    /// Questions that are due, and neighbours that did not answer.
    pub fn expire(&mut self, now: Ns) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let (mut ask, mut lost) = (Vec::new(), Vec::new());
        for ip in self.open.keys() {
            let Some(e) = self.known.get_mut(ip) else { continue };
            if e.asked.saturating_add(ASK_NS) > now {
                continue;
            }
            if e.tries >= TRIES {
                lost.push(*ip);
            } else {
                e.tries += 1;
                e.asked = now;
                ask.push(*ip);
            }
        }
        for ip in &lost {
            self.open.remove(ip);
            self.known.remove(ip);
        }
        (ask, lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_three_times_then_lost() {
        let mut n = Neighbours::default();
        let ip: IpAddr = "10.0.0.2".parse().unwrap();
        assert_eq!(n.way(ip, 0), Way::Ask);
        n.hold(ip, vec![1]);
        assert_eq!(n.way(ip, 1), Way::Wait);
        assert_eq!(n.deadline(), Some(ASK_NS));
        assert_eq!(n.expire(ASK_NS), (vec![ip], vec![]));
        assert_eq!(n.expire(2 * ASK_NS), (vec![ip], vec![]));
        assert_eq!(n.expire(3 * ASK_NS), (vec![], vec![ip]));
        assert_eq!(n.deadline(), None);
    }

    #[test]
    fn an_answer_frees_what_waits_and_ages() {
        let mut n = Neighbours::default();
        let ip: IpAddr = "10.0.0.2".parse().unwrap();
        let mac = EthernetAddress([2, 0, 0, 0, 0, 9]);
        assert!(n.learn(ip, mac, 5, true).is_empty());
        assert_eq!(n.way(ip, 10), Way::Ask);
        n.hold(ip, vec![1]);
        assert_eq!(n.learn(ip, mac, 20, true), vec![vec![1]]);
        assert_eq!(n.way(ip, 30), Way::To(mac));
        assert_eq!(n.way(ip, 20 + FRESH_NS), Way::Check(mac));
        assert_eq!(n.way(ip, 21 + FRESH_NS), Way::To(mac));
    }
}
