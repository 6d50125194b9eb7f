//! The writable layer as a stream of bytes: what a named run keeps between its starts.
//!
//! Records, each with its length before it, parents before children. What the layer below has is not in
//! there: only names that were added, changed or removed, as in memory.

use super::Tree;
use crate::fs::inode::{Body, Dir, Entry, Inode};
use crate::fs::pages::Data;
use crate::fs::{join, split};
use crate::kernel::Kernel;
use ftl_core::kcore::Env;
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};
use std::cell::Cell;
use std::rc::Rc;

/// Kind of a record.
const END: u8 = 0;
const NODE: u8 = 1;
const NAME: u8 = 2;
const WHITEOUT: u8 = 3;
const DATA: u8 = 4;
/// Kind of an inode.
const FILE: u8 = 0;
const LINK: u8 = 1;
const DIR: u8 = 2;
const SPECIAL: u8 = 3;
/// Version of the records.
const VERSION: u32 = 1;
const CHUNK: u64 = 1 << 18;

struct Writer<'a, 'b> {
    env: &'a mut Env<'b>,
    /// Inodes with several names that were written, and their number.
    seen: Vec<(Rc<Inode>, u64)>,
    written: u64,
}

impl Writer<'_, '_> {
    fn put(&mut self, record: &[u8]) {
        let len = (record.len() as u32).to_le_bytes();
        self.env.plat.layer_write(&len);
        self.env.plat.layer_write(record);
    }

    fn node(&mut self, path: &[u8], node: &Rc<Inode>, over: bool) {
        // By identity, not by number: two names of one host file may have been copied up apart.
        if node.nlink.get() > 1 && node.dir().is_none() {
            if let Some((_, first)) = self.seen.iter().find(|(n, _)| Rc::ptr_eq(n, node)) {
                let mut r = vec![NAME];
                (path.to_vec(), over, *first).put(&mut r);
                return self.put(&r);
            }
            self.seen.push((node.clone(), self.written));
        }
        self.written += 1;
        let mut r = vec![NODE];
        path.to_vec().put(&mut r);
        over.put(&mut r);
        node.id.put(&mut r);
        (node.mode.get(), node.uid.get(), node.gid.get()).put(&mut r);
        (node.nlink.get(), node.rdev).put(&mut r);
        for t in &node.times {
            t.get().put(&mut r);
        }
        let attrs = node.xattrs.borrow();
        put_list(&attrs.keys().cloned().collect::<Vec<_>>(), &mut r);
        put_list(&attrs.values().cloned().collect::<Vec<_>>(), &mut r);
        drop(attrs);
        match &node.body {
            Body::File(d) => {
                (u32::from(FILE), d.size()).put(&mut r);
                self.put(&r);
                self.contents(d);
            }
            Body::Link(to) => {
                (u32::from(LINK), to.clone()).put(&mut r);
                self.put(&r);
            }
            Body::Special => {
                u32::from(SPECIAL).put(&mut r);
                self.put(&r);
            }
            Body::Dir(d) => {
                (u32::from(DIR), d.lower.borrow().clone(), d.transparent.get()).put(&mut r);
                self.put(&r);
                for (name, e) in d.entries.borrow().iter() {
                    let path = join(path, name);
                    match e {
                        Entry::Node(n, over) => self.node(&path, n, *over),
                        Entry::Whiteout => {
                            let mut r = vec![WHITEOUT];
                            path.put(&mut r);
                            self.put(&r);
                        }
                    }
                }
            }
        }
    }

    fn contents(&mut self, d: &Data) {
        let mut at = 0;
        while let Ok(start) = d.seek(at, false) {
            let end = d.seek(start, true).unwrap_or(d.size());
            at = start;
            while at < end {
                let mut buf = vec![0; CHUNK.min(end - at) as usize];
                let n = d.read(self.env.plat, at, &mut buf);
                buf.truncate(n);
                let mut r = vec![DATA];
                (at, buf).put(&mut r);
                self.put(&r);
                at += (n as u64).max(1);
            }
        }
    }
}

struct Reader<'a, 'b> {
    env: &'a mut Env<'b>,
    buf: Vec<u8>,
    at: usize,
}

impl Reader<'_, '_> {
    fn bytes(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.buf.len() - self.at < len {
            let more = self.env.plat.layer_read(CHUNK as usize);
            if more.is_empty() {
                return None;
            }
            self.buf.drain(..self.at);
            self.at = 0;
            self.buf.extend_from_slice(&more);
        }
        let out = self.buf[self.at..self.at + len].to_vec();
        self.at += len;
        Some(out)
    }

    fn record(&mut self) -> Option<Vec<u8>> {
        let len = self.bytes(4)?;
        let len = u32::from_le_bytes(len.try_into().ok()?);
        self.bytes(len as usize)
    }
}

fn node_of(k: &Kernel, src: &mut &[u8]) -> Option<(Vec<u8>, bool, Rc<Inode>)> {
    let (path, over) = Wire::take(src)?;
    let id: (u64, u64) = Wire::take(src)?;
    let (mode, uid, gid): (u32, u32, u32) = Wire::take(src)?;
    let (nlink, rdev): (u64, u64) = Wire::take(src)?;
    let mut times = [0i128; 4];
    for t in &mut times {
        *t = Wire::take(src)?;
    }
    let names: Vec<Vec<u8>> = take_list(src)?;
    let values: Vec<Vec<u8>> = take_list(src)?;
    let kind = u8::try_from(u32::take(src)?).ok()?;
    let body = match kind {
        FILE => {
            let d = Data::new(&k.fs.pages);
            d.grow(u64::take(src)?);
            Body::File(d)
        }
        LINK => Body::Link(Wire::take(src)?),
        SPECIAL => Body::Special,
        DIR => {
            let d = Dir::default();
            *d.lower.borrow_mut() = Wire::take(src)?;
            d.transparent.set(Wire::take(src)?);
            Body::Dir(d)
        }
        _ => return None,
    };
    let node = Inode::new(id, mode, (uid, gid), rdev, 0, body);
    node.nlink.set(nlink);
    for (cell, t) in node.times.iter().zip(times) {
        cell.set(t);
    }
    *node.xattrs.borrow_mut() = names.into_iter().zip(values).collect();
    Some((path, over, node))
}

impl Tree {
    /// Writes the layer.
    pub fn save(&self, env: &mut Env<'_>) {
        let mut w = Writer {
            env,
            seen: Vec::new(),
            written: 0,
        };
        let mut head = Vec::new();
        (VERSION, self.next_ino.get()).put(&mut head);
        w.put(&head);
        w.node(b"", &self.root, false);
        w.put(&[END]);
        w.env.plat.layer_done();
    }

    /// The tree with a saved layer, if there is one. `None`: it cannot be understood.
    pub fn load(self: &Rc<Tree>, k: &Kernel, env: &mut Env<'_>) -> Option<Rc<Tree>> {
        let mut r = Reader {
            env,
            buf: Vec::new(),
            at: 0,
        };
        let Some(head) = r.record() else {
            // Nothing was kept yet.
            return Some(self.clone());
        };
        let (version, next_ino): (u32, u64) = Wire::take(&mut head.as_slice())?;
        if version != VERSION {
            return None;
        }
        let mut nodes: Vec<Rc<Inode>> = Vec::new();
        loop {
            let record = r.record()?;
            let (kind, mut rest) = record.split_first()?;
            let src = &mut rest;
            match *kind {
                END => break,
                NODE => {
                    let (path, over, node) = node_of(k, src)?;
                    if let Some(root) = nodes.first() {
                        insert(root, &path, Entry::Node(node.clone(), over))?;
                    }
                    nodes.push(node);
                }
                NAME => {
                    let (path, over, serial): (Vec<u8>, bool, u64) = Wire::take(src)?;
                    let node = nodes.get(usize::try_from(serial).ok()?)?.clone();
                    insert(nodes.first()?, &path, Entry::Node(node, over))?;
                }
                WHITEOUT => insert(nodes.first()?, &Vec::<u8>::take(src)?, Entry::Whiteout)?,
                DATA => {
                    let (at, bytes): (u64, Vec<u8>) = Wire::take(src)?;
                    nodes.last()?.data()?.write(r.env.plat, at, &bytes).ok()?;
                }
                _ => return None,
            }
        }
        let root = nodes.into_iter().next()?;
        root.dir()?;
        self.next_ino.set(self.next_ino.get().max(next_ino));
        Some(Rc::new(Tree {
            kind: self.kind,
            dev: Cell::new(self.dev.get()),
            root,
            lower: self.lower,
            next_ino: self.next_ino.clone(),
        }))
    }
}

/// Puts an entry at `path`, whose directory was put there before.
fn insert(root: &Rc<Inode>, path: &[u8], entry: Entry) -> Option<()> {
    let (dir, name) = split(path);
    let mut node = root.clone();
    for part in dir.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
        let next = match node.dir()?.entries.borrow().get(part) {
            Some(Entry::Node(n, _)) => n.clone(),
            _ => return None,
        };
        node = next;
    }
    node.dir()?.entries.borrow_mut().insert(name.to_vec(), entry);
    Some(())
}
