//! `HostNet` for the platform: the device's answers, copied to the image's side.

use super::{Edge, interfaces, keep};
use crate::alloc::{self, Side};
use crate::platform::Plat;
use ftl_core::door::Input;
use ftl_core::errno::Errno;
use ftl_core::hostnet::{Connect, HostNet, Interface, SockAddr};
use ftl_core::platform::{Handle, NIC};

impl Plat {
    /// The poll saw a change of what may be a socket; false if it is none.
    pub fn net_ready(&mut self, h: Handle, edge: Edge) -> bool {
        let (net, mut door) = self.net_door();
        net.ready(h, edge, &mut door)
    }

    /// Sockets that had more than fitted go on.
    pub fn net_resume(&mut self) {
        let (net, mut door) = self.net_door();
        net.resume(&mut door);
    }

    /// The interface has frames, or room for them again.
    pub fn nic_ready(&mut self, edge: Edge) {
        let Plat {
            nic,
            inputs,
            stamp,
            clock,
            ..
        } = self;
        let Some(nic) = nic else { return };
        if edge.writable {
            nic.writable();
        }
        if edge.readable {
            let mut at = *stamp;
            at.v = at.v.max(clock.now());
            nic.receive(at.v, &mut |frame| {
                inputs.push_back((at, Input::Packet(NIC, keep(frame))));
            });
        }
    }

    fn net_door(&mut self) -> (&mut super::Net, impl FnMut(Input) + '_) {
        let Plat {
            net,
            inputs,
            stamp,
            clock,
            ..
        } = self;
        let door = move |input| {
            inputs.push_back((stamp.arrived(clock.now()), input));
        };
        (net, door)
    }
}

impl HostNet for Plat {
    fn net_present(&mut self) -> bool {
        self.net.present
    }
    fn net_socket(&mut self, family: i32, kind: i32, protocol: i32, new: Handle) -> Result<(), Errno> {
        let _side = alloc::enter(Side::Host);
        self.net.socket(family, kind, protocol, new)
    }
    fn net_bind(&mut self, h: Handle, addr: &[u8]) -> Result<SockAddr, Errno> {
        let _side = alloc::enter(Side::Host);
        self.net.bind(h, addr).map(|a| keep(&a))
    }
    fn net_listen(&mut self, h: Handle, backlog: i32) -> Result<SockAddr, Errno> {
        let _side = alloc::enter(Side::Host);
        self.net.listen(h, backlog).map(|a| keep(&a))
    }
    fn net_grant_accept(&mut self, listener: Handle, conn: Handle) {
        let _side = alloc::enter(Side::Host);
        self.net.grant_accept(listener, conn);
    }
    fn net_connect(&mut self, h: Handle, addr: &[u8]) -> Result<Connect, Errno> {
        let _side = alloc::enter(Side::Host);
        self.net.connect(h, addr).map(|c| match c {
            Connect::Done(a) => Connect::Done(keep(&a)),
            Connect::Pending => Connect::Pending,
        })
    }
    fn net_grant(&mut self, h: Handle, bytes: usize) {
        let _side = alloc::enter(Side::Host);
        self.net.grant(h, bytes);
    }
    fn net_send(&mut self, h: Handle, bytes: &[u8], more: bool) -> Result<usize, Errno> {
        let _side = alloc::enter(Side::Host);
        self.net.send(h, bytes, more)
    }
    fn net_send_to(&mut self, h: Handle, bytes: &[u8], to: &[u8], control: &[u8]) -> Result<usize, Errno> {
        let _side = alloc::enter(Side::Host);
        self.net.send_to(h, bytes, to, control)
    }
    fn net_bind_at(&mut self, h: Handle, dir: Handle, name: &[u8], mode: u32) -> Result<(), Errno> {
        self.changing();
        let _side = alloc::enter(Side::Host);
        let dir = self.fd(dir)?;
        self.net.bind_at(h, dir, name, mode)
    }
    fn net_bound_at(&mut self, dir: Handle, name: &[u8]) -> Option<Handle> {
        let _side = alloc::enter(Side::Host);
        let dir = self.fd(dir).ok()?;
        self.net.bound_at(dir, name)
    }
    fn net_connect_at(&mut self, h: Handle, dir: Handle, name: &[u8]) -> Result<SockAddr, Errno> {
        let _side = alloc::enter(Side::Host);
        let dir = self.fd(dir)?;
        self.net.connect_at(h, dir, name).map(|a| keep(&a))
    }
    fn net_send_at(&mut self, h: Handle, bytes: &[u8], dir: Handle, name: &[u8]) -> Result<usize, Errno> {
        let _side = alloc::enter(Side::Host);
        let dir = self.fd(dir)?;
        self.net.send_at(h, bytes, dir, name)
    }
    fn net_shutdown(&mut self, h: Handle, how: i32) -> Result<(), Errno> {
        self.net.shutdown(h, how)
    }
    fn net_close(&mut self, h: Handle, rest: Vec<u8>, abort: bool) {
        let _side = alloc::enter(Side::Host);
        // `rest` is the image's; what lingers is the device's own copy.
        self.net.close(h, rest.to_vec(), abort);
    }
    fn net_set_option(&mut self, h: Handle, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        self.net.set_option(h, level, name, value)
    }
    fn net_get_option(&mut self, h: Handle, level: i32, name: i32, len: usize) -> Result<Vec<u8>, Errno> {
        self.net.get_option(h, level, name, len)
    }
    fn net_local(&mut self, h: Handle) -> Result<SockAddr, Errno> {
        let _side = alloc::enter(Side::Host);
        self.net.local(h).map(|a| keep(&a))
    }
    fn net_unsent(&mut self, h: Handle) -> u32 {
        self.net.unsent(h)
    }
    fn net_interfaces(&mut self) -> Option<Vec<Interface>> {
        if !self.net.present {
            return None;
        }
        let list = alloc::on(Side::Host, interfaces);
        let copy = list.clone();
        alloc::on(Side::Host, || drop(list));
        Some(copy)
    }
}
