//! A tree becomes a layer: the same tree, the same bytes.
//!
//! Entries are in the order of their names, with times in whole seconds (not later than SOURCE_DATE_EPOCH if that is set), the
//! caller's own ids as root and without names of users. gzip has neither a time nor a name in its header.

use crate::digest::{Digest, Hashed};
use crate::image::Compression;
use crate::store::{Blob, Store};
use crate::{Result, reason};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is at a name in the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// What the host has there.
    Host(PathBuf),
    /// A directory of ours, with its mode.
    Dir(u32),
    /// A small file of ours.
    Text(Vec<u8>),
    /// A symlink.
    Link(Vec<u8>),
}

/// A tree: names below the root without a leading slash.
pub type Nodes = BTreeMap<Vec<u8>, Node>;

/// What is not in the layer although it is in the tree.
pub type Notes = Vec<String>;

/// Everything below a directory.
pub fn directory(dir: &Path) -> Result<Nodes> {
    let mut out = Nodes::new();
    walk(dir, b"", &mut out)?;
    Ok(out)
}

/// Adds what is below `dir`, under `at`.
pub fn walk(dir: &Path, at: &[u8], out: &mut Nodes) -> Result<()> {
    let err = |e: std::io::Error| format!("{}: {}", dir.display(), reason(&e));
    for item in std::fs::read_dir(dir).map_err(err)? {
        let item = item.map_err(err)?;
        let name = item.file_name();
        if name.as_bytes().starts_with(b".wh.") {
            return Err(format!(
                "{}: names that begin with .wh. have another meaning in a layer",
                item.path().display()
            ));
        }
        let full = match at {
            b"" => name.as_bytes().to_vec(),
            at => [at, b"/", name.as_bytes()].concat(),
        };
        out.insert(full.clone(), Node::Host(item.path()));
        if item.file_type().map_err(err)?.is_dir() {
            walk(&item.path(), &full, out)?;
        }
    }
    Ok(())
}

/// Latest time of an entry, seconds since 1970.
fn latest() -> u64 {
    std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(u64::MAX)
}

/// Time at which an image was made: only if SOURCE_DATE_EPOCH says it, as two builds of the same are the same.
pub fn created() -> Option<String> {
    Some(latest()).filter(|s| *s != u64::MAX).map(rfc3339)
}

/// Seconds since 1970 as OCI writes a time.
fn rfc3339(s: u64) -> String {
    let (days, rest) = (s / 86_400, s % 86_400);
    // Days from 0000-03-01, in eras of 400 years (Hinnant, chrono-compatible low-level date algorithms).
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (
        doy - (153 * mp + 2) / 5 + 1,
        if mp < 10 { mp + 3 } else { mp - 9 },
    );
    let y = yoe + era * 400 + u64::from(m <= 2);
    format!(
        "{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// A tree as a layer: its blob, and the digest of the tar in it.
pub fn layer(
    store: &Store,
    nodes: &Nodes,
    compression: Compression,
    notes: &mut Notes,
) -> Result<(Blob, Digest)> {
    let io = |e: std::io::Error| reason(&e);
    let out = std::io::BufWriter::with_capacity(1 << 18, store.writer()?);
    let (out, diff, media) = match compression {
        Compression::None => {
            let (out, diff) = tar_of(out, nodes, notes)?;
            (out, diff, "application/vnd.oci.image.layer.v1.tar")
        }
        Compression::Gzip => {
            let gz = flate2::GzBuilder::new()
                .mtime(0)
                .write(out, flate2::Compression::new(6));
            let (gz, diff) = tar_of(gz, nodes, notes)?;
            (
                gz.finish().map_err(io)?,
                diff,
                "application/vnd.oci.image.layer.v1.tar+gzip",
            )
        }
        Compression::Zstd => {
            let z = zstd::stream::write::Encoder::new(out, 3).map_err(io)?;
            let (z, diff) = tar_of(z, nodes, notes)?;
            (
                z.finish().map_err(io)?,
                diff,
                "application/vnd.oci.image.layer.v1.tar+zstd",
            )
        }
    };
    let writer = out.into_inner().map_err(|e| reason(e.error()))?;
    Ok((store.finish(writer, media)?, diff))
}

fn tar_of<W: Write>(out: W, nodes: &Nodes, notes: &mut Notes) -> Result<(W, Digest)> {
    let mut tar = tar::Builder::new(Hashed::new(out));
    let mut links: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    for (name, node) in nodes {
        put(&mut tar, name, node, &mut links, notes)
            .map_err(|e| format!("/{}: {}", String::from_utf8_lossy(name), reason(&e)))?;
    }
    let hashed = tar.into_inner().map_err(|e| reason(&e))?;
    Ok((hashed.inner, hashed.hasher.finish()))
}

fn put<W: Write>(
    tar: &mut tar::Builder<W>,
    name: &[u8],
    node: &Node,
    links: &mut BTreeMap<(u64, u64), Vec<u8>>,
    notes: &mut Notes,
) -> std::io::Result<()> {
    let path = Path::new(OsStr::from_bytes(name));
    let mut header = tar::Header::new_gnu();
    let simple = |header: &mut tar::Header, kind, mode, size| {
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
    };
    let host = match node {
        Node::Host(p) => p,
        Node::Dir(mode) => {
            simple(&mut header, tar::EntryType::Directory, *mode, 0);
            return tar.append_data(&mut header, [name, b"/"].concat().as_os(), std::io::empty());
        }
        Node::Text(text) => {
            simple(&mut header, tar::EntryType::Regular, 0o644, text.len() as u64);
            return tar.append_data(&mut header, path, text.as_slice());
        }
        Node::Link(target) => {
            simple(&mut header, tar::EntryType::Symlink, 0o777, 0);
            return tar.append_link(&mut header, path, target.as_os());
        }
    };
    let meta = host.symlink_metadata()?;
    let kind = meta.file_type();
    if kind.is_socket() {
        notes.push(format!("{}: a socket; left out", host.display()));
        return Ok(());
    }
    header.set_mode(meta.mode() & 0o7777);
    let own = |id: u32, ours: u32| u64::from(if id == ours { 0 } else { id });
    header.set_uid(own(meta.uid(), rustix::process::geteuid().as_raw()));
    header.set_gid(own(meta.gid(), rustix::process::getegid().as_raw()));
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0).min(latest()));
    header.set_size(0);
    if kind.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        return tar.append_link(&mut header, path, std::fs::read_link(host)?);
    }
    if meta.nlink() > 1 && !kind.is_dir() {
        match links.entry((meta.dev(), meta.ino())) {
            std::collections::btree_map::Entry::Occupied(first) => {
                header.set_entry_type(tar::EntryType::Link);
                return tar.append_link(&mut header, path, first.get().as_slice().as_os());
            }
            std::collections::btree_map::Entry::Vacant(v) => drop(v.insert(name.to_vec())),
        }
    }
    if kind.is_file() || kind.is_dir() {
        put_attributes(tar, host)?;
    }
    if kind.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        return tar.append_data(&mut header, [name, b"/"].concat().as_os(), std::io::empty());
    }
    if kind.is_file() {
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(meta.len());
        let file = File::open(host)?;
        let mut exact = Exact {
            inner: file,
            left: meta.len(),
        };
        return tar.append_data(&mut header, path, &mut exact);
    }
    header.set_entry_type(match () {
        () if kind.is_fifo() => tar::EntryType::Fifo,
        () if kind.is_char_device() => tar::EntryType::Char,
        () => tar::EntryType::Block,
    });
    if !kind.is_fifo() {
        header.set_device_major(rustix::fs::major(meta.rdev()))?;
        header.set_device_minor(rustix::fs::minor(meta.rdev()))?;
    }
    tar.append_data(&mut header, path, std::io::empty())
}

/// Bytes as a path.
trait AsOs {
    fn as_os(&self) -> &Path;
}

impl AsOs for [u8] {
    fn as_os(&self) -> &Path {
        Path::new(OsStr::from_bytes(self))
    }
}

/// As many bytes as were promised; a file that changes meanwhile is an error.
struct Exact {
    inner: File,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let n = self.inner.read(&mut buf[..most])?;
        if n == 0 && most > 0 {
            return Err(std::io::Error::other("became shorter while it was read"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

/// Attributes that mean the same elsewhere: the user's, and capabilities.
fn put_attributes<W: Write>(tar: &mut tar::Builder<W>, host: &Path) -> std::io::Result<()> {
    let mut names = vec![0; 65_536];
    let n = match rustix::fs::llistxattr(host, &mut names[..]) {
        Ok(n) => n,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let mut all = BTreeMap::new();
    for name in names[..n].split(|b| *b == 0) {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        if !name.starts_with("user.") && name != "security.capability" {
            continue;
        }
        let mut value = vec![0; 65_536];
        let n = rustix::fs::lgetxattr(host, name, &mut value[..])?;
        value.truncate(n);
        all.insert(format!("SCHILY.xattr.{name}"), value);
    }
    if all.is_empty() {
        return Ok(());
    }
    tar.append_pax_extensions(all.iter().map(|(k, v)| (k.as_str(), v.as_slice())))
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(super::rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(super::rfc3339(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(super::rfc3339(1_767_225_599), "2025-12-31T23:59:59Z");
    }
}
