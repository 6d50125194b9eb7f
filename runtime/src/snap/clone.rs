//! One snapshot, many images: it is read and checked once, into memory files, from which each clone starts.
//!
//! Private pages of processes are mapped from those files copy-on-write, so that clones share what they do not
//! write. The arena and the page store are what the library OS writes all the time: each clone copies them.

use super::capture::next_data;
use super::file::FromFiles;
use super::pages::Pages;
use super::restore::{Loaded, Source, in_range};
use super::state::{HostState, SocketRow};
use super::{Object, show_addr};
use crate::platform::net::Kind;
use crate::sys::{self, sys};
use ftl_core::layout::{ARENA_LEN, GUEST_TOP, PAGE, PAGES_LEN};
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};
use ftl_core::snap::Root;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// Descriptors that clones start from have this number or a higher one: lower ones may be the image's.
const FIRST_FD: i32 = 700;

/// A snapshot in memory files.
pub struct Template {
    image: u64,
    root: Root,
    state: Vec<u8>,
    zero: Vec<(u32, u64, u64)>,
    arena: File,
    store: File,
    spaces: BTreeMap<u32, File>,
}

fn memory(len: u64) -> Result<File, String> {
    let bad = |e| format!("memory for pages: {e}");
    let fd = sys::memfd(c"ftvm-clone", len).map_err(bad)?;
    // SAFETY: a new descriptor.
    let low = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: no pointers. Without CLOEXEC: clones inherit it.
    let high = unsafe { sys!(libc::SYS_fcntl, low.as_raw_fd(), libc::F_DUPFD, FIRST_FD) }.map_err(bad)?;
    // SAFETY: a new descriptor.
    Ok(unsafe { File::from_raw_fd(high as i32) })
}

impl Template {
    /// Reads and checks a snapshot.
    pub fn load(source: &mut FromFiles) -> Result<Template, String> {
        let arena = memory(ARENA_LEN)?;
        let store = memory(PAGES_LEN)?;
        let mut spaces = BTreeMap::new();
        let loaded = source.load(&mut |object, first, bytes| {
            let (file, limit) = match object {
                Object::Arena => (&arena, ARENA_LEN),
                Object::Store => (&store, PAGES_LEN),
                Object::Runtime | Object::Volumes => return Ok(()),
                Object::Space(n) => {
                    if let std::collections::btree_map::Entry::Vacant(e) = spaces.entry(n) {
                        e.insert(memory(GUEST_TOP)?);
                    }
                    (&spaces[&n], GUEST_TOP)
                }
            };
            let at = in_range(first, bytes.len() as u64, limit)
                .ok_or_else(|| format!("snapshot: page {first:#x} of {object:?} is out of range"))?;
            file.write_all_at(bytes, at)
                .map_err(|e| format!("memory for pages: {e}"))
        })?;
        Ok(Template {
            image: loaded.image,
            root: loaded.root.unwrap_or_default(),
            state: loaded.state,
            zero: loaded.zero,
            arena,
            store,
            spaces,
        })
    }

    /// Identity of the snapshot.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The host's side.
    pub fn state(&self) -> Option<HostState> {
        HostState::decode(&self.state)
    }

    /// A memory file that tells a clone all about the template.
    pub fn describe(&self) -> Result<File, String> {
        let mut out = Vec::new();
        (
            self.image,
            self.arena.as_raw_fd() as u64,
            self.store.as_raw_fd() as u64,
        )
            .put(&mut out);
        self.state.put(&mut out);
        put_list(&self.zero, &mut out);
        let spaces: Vec<(u32, u64)> = self
            .spaces
            .iter()
            .map(|(n, f)| (*n, f.as_raw_fd() as u64))
            .collect();
        put_list(&spaces, &mut out);
        let file = memory(0)?;
        file.write_all_at(&out, 0)
            .map_err(|e| format!("memory for pages: {e}"))?;
        Ok(file)
    }
}

/// A clone's view of a [`Template`]: the descriptor of its description.
pub struct FromTemplate(pub i32);

impl FromTemplate {
    fn read(&self) -> Option<(Loaded, File, File)> {
        // SAFETY: the clone verb left the descriptor to us.
        let about = unsafe { File::from_raw_fd(self.0) };
        let mut bytes = vec![0; about.metadata().ok()?.len() as usize];
        about.read_exact_at(&mut bytes, 0).ok()?;
        let src = &mut bytes.as_slice();
        let (image, arena, store): (u64, u64, u64) = Wire::take(src)?;
        let state = Wire::take(src)?;
        let zero = take_list(src)?;
        let spaces: Vec<(u32, u64)> = take_list(src)?;
        // SAFETY: as above; each is named once.
        let file = |fd: u64| unsafe { File::from_raw_fd(fd as i32) };
        let sparse = |fd| Pages::sparse(Rc::new(file(fd).into()));
        let spaces = spaces.into_iter().map(|(n, fd)| (n, sparse(fd))).collect();
        let loaded = Loaded {
            image,
            state,
            zero,
            spaces,
            rest: None,
            root: None,
        };
        Some((loaded, file(arena), file(store)))
    }
}

impl Source for FromTemplate {
    fn load(
        &mut self,
        found: &mut dyn FnMut(Object, u64, &[u8]) -> Result<(), String>,
    ) -> Result<Loaded, String> {
        let (loaded, arena, store) = self.read().ok_or("clone: started without its template")?;
        let mut buf = vec![0; 1 << 20];
        for (object, file) in [(Object::Arena, arena), (Object::Store, store)] {
            let mut at = 0;
            while let Some((start, end)) = next_data(file.as_raw_fd(), at) {
                at = start;
                while at < end {
                    let n = (end - at).min(buf.len() as u64) as usize;
                    file.read_exact_at(&mut buf[..n], at)
                        .map_err(|e| format!("clone: {e}"))?;
                    found(object, at / PAGE, &buf[..n])?;
                    at += n as u64;
                }
            }
        }
        Ok(loaded)
    }
}

fn port(addr: &[u8]) -> Option<u16> {
    let inet = matches!(addr.first(), Some(f) if [libc::AF_INET, libc::AF_INET6].contains(&i32::from(*f)));
    let port = u16::from_be_bytes(*addr.get(2..4)?.first_chunk()?);
    (inet && port != 0).then_some(port)
}

/// A socket with another port on the host than the image has.
pub fn with_ports(row: &SocketRow, ports: &[(u16, u16)]) -> SocketRow {
    let mut row = row.clone();
    let new = port(&row.local).and_then(|p| ports.iter().find(|(old, _)| *old == p));
    if let Some((_, new)) = new {
        row.local[2..4].copy_from_slice(&new.to_be_bytes());
    }
    row
}

/// Ports of the image that a host can hold only once, and where they are bound, for messages.
pub fn bound(state: &HostState) -> BTreeMap<u16, String> {
    let mut found = BTreeMap::new();
    for row in &state.sockets {
        if (row.kind == Kind::Listener as u8
            || row.kind == Kind::Datagram as u8
            || row.kind == Kind::Idle as u8)
            && let Some(p) = port(&row.local)
        {
            found.entry(p).or_insert_with(|| show_addr(&row.local));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_replaced_where_they_are_named() {
        let mut row = SocketRow {
            local: vec![2, 0, 0x18, 0xeb, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            ..SocketRow::default()
        };
        let new = with_ports(&row, &[(1, 2), (6379, 7001)]);
        assert_eq!(show_addr(&new.local), "127.0.0.1:7001");
        assert_eq!(show_addr(&with_ports(&row, &[]).local), "127.0.0.1:6379");
        row.local[2..4].fill(0);
        assert_eq!(with_ports(&row, &[(0, 9)]).local, row.local);
    }
}
