//! Files of its host's tree that an image has open or mapped, on their way to a backup whose host has none at their paths, or others.
//!
//! What is in the root of an OCI image is not among them: [`super::roots`] brings that whole. What a program reads anew after a takeover is
//! the new host's; but what it had in its hands stays what it was.
//!
//! ```text
//! primary's supervisor (a thread)                 a process of the agent
//!   knock, OFFER (image; path, size, hash) ──────>  the same at that path here, or kept?
//!                                          <──────  WANT, as many times as needed
//!   BLOB (size), DATA..                    ──────>  has it the hash? kept as `files/HASH`
//!                                          <──────  HERE / NO
//! ```
//!
//! The supervisor finds the files in the table of descriptors that the image's processes share, so that one which was replaced or
//! removed meanwhile is still itself. It looks before a backup is connected, and then every two seconds for new ones
//! ([`AGAIN`]).
//!
//! The backup's host keeps a directory for each image, `.trees/IMAGE` beside the kept state of runs: copies in `files`, and `index`, which
//! tells of each path which contents the primary had and which file of this host had them too when that was looked at. A takeover asks
//! the index, and hashes nothing that has not changed since. The standby holds those files open: a host's packages are upgraded while it is a
//! backup. Whoever uses a directory holds a shared lock on it; one without users is
//! removed by a later offer.

use super::links::Unproved;
use super::roots::{self, Kind, PATIENCE, PIECE, parsed, receive, send, working};
use crate::door::files::{Files, Version, name_of, version_of};
use crate::link::conn::Link;
use crate::link::{self, LinkError, Security};
use crate::platform::root;
use crate::snap::state::FileRow;
use crate::snap::wide::Hasher;
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const KNOCK: &[u8; 8] = b"FTVMTREE";
/// Version of what both sides say.
const VERSION: u64 = 1;
/// No larger file is hashed and sent: it has to be at its path on the other host.
const LARGEST: u64 = 4 << 30;
/// So many files are offered at once.
const MOST: usize = 512;
/// So often a file may become another one.
const MOST_CHANGES: u32 = 5;
/// Between two looks for files that were opened meanwhile.
pub const AGAIN: Duration = Duration::from_secs(2);
/// A directory without users is left alone as long: its standby may be about to come.
const UNUSED: Duration = Duration::from_secs(3600);

/// A knock that brings files.
fn knock() -> [u8; super::KNOCK_LEN] {
    let mut b = [0; super::KNOCK_LEN];
    b[..8].copy_from_slice(KNOCK);
    b
}

/// A link brings files.
pub fn knocked(b: &[u8; super::KNOCK_LEN]) -> bool {
    b[..8] == *KNOCK
}

/// Contents at a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Named {
    path: Vec<u8>,
    size: u64,
    hash: [u8; 32],
}

impl Wire for Named {
    fn put(&self, out: &mut Vec<u8>) {
        self.path.put(out);
        self.size.put(out);
        self.hash.to_vec().put(out);
    }
    fn take(src: &mut &[u8]) -> Option<Named> {
        Some(Named {
            path: Wire::take(src)?,
            size: Wire::take(src)?,
            hash: <Vec<u8>>::take(src)?.try_into().ok()?,
        })
    }
}

/// What a primary has at a path, and where this host has it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Row {
    file: Named,
    /// The file at this path here had the same contents when it was this version; `None`: a copy is kept.
    here: Option<Version>,
}

impl Wire for Row {
    fn put(&self, out: &mut Vec<u8>) {
        self.file.put(out);
        self.here
            .map(|(dev, ino, size, mtime, ctime)| ((dev, ino, size), (mtime, ctime)))
            .put(out);
    }
    fn take(src: &mut &[u8]) -> Option<Row> {
        let file = Wire::take(src)?;
        let here: Option<((u64, u64, u64), (i64, i64))> = Wire::take(src)?;
        Some(Row {
            file,
            here: here.map(|((dev, ino, size), (mtime, ctime))| (dev, ino, size, mtime, ctime)),
        })
    }
}

// The primary's side.

/// A file that the image has open.
struct Used {
    named: Named,
    file: File,
}

/// What is known of the files of the image that is looked after.
#[derive(Default)]
pub struct Following {
    files: Files,
    /// What the backup's host has.
    there: BTreeSet<Named>,
    /// Files that cannot be sent were told of.
    told: BTreeSet<Vec<u8>>,
    /// Versions of files, and how often they were others: what the host's programs write to cannot be kept up with.
    seen: BTreeMap<(u64, u64), (Version, u32)>,
    /// Copies that stand for files of another host, and those files' paths.
    copies: Option<BTreeMap<PathBuf, Vec<u8>>>,
}

impl Following {
    /// The other side may have lost what it had.
    pub fn forget(&mut self) {
        self.there.clear();
    }

    /// Regular files that the image's processes have open for reading, and that are not known to be at the backup's host. At most
    /// [`MOST`]; true: there are more.
    fn used(&mut self, image: u64) -> (Vec<Used>, bool) {
        let mut found = Vec::new();
        let pid = crate::control::holder();
        let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            return (found, false);
        };
        let copies = self.copies.get_or_insert_with(|| match Tree::find(image) {
            Some(tree) => tree.copies().collect(),
            None => BTreeMap::new(),
        });
        for entry in open.flatten() {
            if found.len() >= MOST {
                return (found, true);
            }
            let link = entry.path();
            let Some((path, file)) = open_for_reading(pid, &link, &entry.file_name()) else {
                continue;
            };
            let path = match copies.get(&path) {
                Some(original) => original.clone(),
                None => root::named(path.into_os_string().into_encoded_bytes()),
            };
            let Ok(meta) = file.metadata() else { continue };
            if root::is_of_image(&path) || path.len() > roots::MAX_NAME {
                continue;
            }
            let version = version_of(&meta);
            let seen = self.seen.entry((version.0, version.1)).or_insert((version, 0));
            if seen.0 != version {
                *seen = (version, seen.1 + 1);
            }
            let own = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            let known = match (meta.len() > LARGEST, seen.1 > MOST_CHANGES) {
                (true, _) => Err("it is too large"),
                (_, true) => Err("it changes all the time"),
                _ => self.files.identity(&own).ok_or("it cannot be read"),
            };
            let (size, hash) = match known {
                Ok(known) => known,
                Err(why) => {
                    if self.told.insert(path.clone()) {
                        crate::talk::warn(&format!(
                            "{}: {why}, and is not sent to backups any more: a takeover needs it at this path of their hosts",
                            String::from_utf8_lossy(&path),
                        ));
                    }
                    continue;
                }
            };
            let named = Named { path, size, hash };
            if !self.there.contains(&named) && !found.iter().any(|u: &Used| u.named == named) {
                found.push(Used { named, file });
            }
        }
        (found, false)
    }
}

/// The path of a descriptor of a regular file that is open for reading only, and that file. What has no name any more travels
/// with the snapshot.
fn open_for_reading(pid: u32, link: &Path, number: &OsStr) -> Option<(PathBuf, File)> {
    let path = std::fs::read_link(link).ok()?;
    let bytes = path.as_os_str().as_bytes();
    let elsewhere = [b"/proc/".as_slice(), b"/sys/", b"/dev/", b"/memfd:"];
    if !bytes.starts_with(b"/")
        || bytes.ends_with(b" (deleted)")
        || elsewhere.iter().any(|p| bytes.starts_with(p))
    {
        return None;
    }
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", number.to_str()?)).ok()?;
    let flags = info.lines().find_map(|l| l.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
    if flags & (libc::O_ACCMODE | libc::O_PATH) != libc::O_RDONLY {
        return None;
    }
    if !std::fs::metadata(link).ok()?.is_file() {
        return None;
    }
    // It may be another one by now: then it has another hash, and its own path at the next look.
    Some((path, File::open(link).ok()?))
}

/// Brings to the agent at `peer` what the image has open and that host has not. Returns when all of it is there.
pub fn bring(peer: &str, image: u64, security: &Security, f: &mut Following) -> Result<(), String> {
    loop {
        let (used, more) = f.used(image);
        if used.is_empty() {
            return Ok(());
        }
        offer(peer, image, security, &used)?;
        f.there.extend(used.into_iter().map(|u| u.named));
        if !more {
            return Ok(());
        }
    }
}

fn offer(peer: &str, image: u64, security: &Security, used: &[Used]) -> Result<(), String> {
    let text = |e: LinkError| e.to_string();
    let mut link = link::connect_saying(peer, &knock(), security, PATIENCE).map_err(text)?;
    let sent = offer_over(&mut link, image, used)?;
    if sent > 0 {
        tracing::info!(
            peer,
            "the backup's host at {peer} was sent {sent} files that are not at their paths there"
        );
    }
    Ok(())
}

/// Returns how many files were asked for.
fn offer_over(link: &mut Link, image: u64, used: &[Used]) -> Result<usize, String> {
    let mut message = Vec::new();
    (VERSION, image).put(&mut message);
    put_list(
        &used.iter().map(|u| u.named.clone()).collect::<Vec<_>>(),
        &mut message,
    );
    send(link, Kind::Offer, &message)?;
    let mut sent = 0;
    loop {
        match receive(link)? {
            (Kind::Busy, _) => {}
            (Kind::Here, _) => return Ok(sent),
            (Kind::Want, want) => {
                let n = parsed(&want)?["file"].as_u64().unwrap_or(u64::MAX);
                let file = usize::try_from(n).ok().and_then(|n| used.get(n));
                let file = file.ok_or("the peer asks for what was not offered")?;
                if let Err(why) = give(link, file) {
                    let _ = send(link, Kind::No, why.as_bytes());
                    let _ = link.drain(PATIENCE);
                    return Err(why);
                }
                sent += 1;
            }
            _ => return Err("the peer says what does not belong here".to_string()),
        }
    }
}

fn give(link: &mut Link, used: &Used) -> Result<(), String> {
    let shown = String::from_utf8_lossy(&used.named.path);
    let io = |e: std::io::Error| format!("{shown}: {}", crate::cli::reason(&e));
    send(
        link,
        Kind::Blob,
        json!({"size": used.named.size}).to_string().as_bytes(),
    )?;
    let mut file = &used.file;
    file.rewind().map_err(io)?;
    let (mut left, mut buf) = (used.named.size, vec![0; PIECE]);
    while left > 0 {
        let most = buf.len().min(left as usize);
        let n = file.read(&mut buf[..most]).map_err(io)?;
        if n == 0 {
            return Err(format!("{shown}: it became shorter while it was sent"));
        }
        send(link, Kind::Data, &buf[..n])?;
        left -= n as u64;
    }
    link.drain(PATIENCE).map_err(|e| e.to_string())
}

// The backup's side.

/// What this host keeps for an image of another one.
#[derive(Debug)]
pub struct Tree {
    dir: PathBuf,
    rows: Vec<Row>,
    /// Shared: it is used.
    lock: Option<File>,
    /// Files of this host that have the contents: held open, so that one that is replaced stays. Where they can be opened again.
    held: BTreeMap<[u8; 32], (Version, PathBuf)>,
    /// The same of a standby, which holds them.
    open: BTreeMap<[u8; 32], File>,
    /// Of the index that was read.
    read: Option<Version>,
}

fn place() -> Result<PathBuf, String> {
    crate::cli::state::trees()
}

impl Tree {
    /// The directory of an image, made if it is missing; it stays while this lives.
    pub fn hold(image: u64) -> Result<Tree, String> {
        Tree::hold_at(&place()?.join(format!("{image:x}")))
    }

    fn hold_at(dir: &Path) -> Result<Tree, String> {
        let bad = |e: std::io::Error| format!("{}: {}", dir.display(), crate::cli::reason(&e));
        // Somebody may be removing what nobody used.
        for _ in 0..10 {
            let folder = std::fs::DirBuilder::new()
                .mode(0o700)
                .recursive(true)
                .create(dir.join("files"));
            let lock = folder.and_then(|()| made(&dir.join("lock"), false));
            let lock = match lock {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                lock => lock.map_err(bad)?,
            };
            if flock(&lock, libc::LOCK_SH) && same_file(&lock, &dir.join("lock")) {
                return Ok(Tree {
                    lock: Some(lock),
                    ..Tree::at(dir)
                });
            }
        }
        Err(format!("{}: it cannot be locked", dir.display()))
    }

    /// What is kept of an image, if anything.
    pub fn find(image: u64) -> Option<Tree> {
        let dir = place().ok()?.join(format!("{image:x}"));
        dir.is_dir().then(|| Tree::at(&dir))
    }

    fn at(dir: &Path) -> Tree {
        Tree {
            dir: dir.to_path_buf(),
            rows: read_index(dir),
            lock: None,
            held: BTreeMap::new(),
            open: BTreeMap::new(),
            read: None,
        }
    }

    /// In a standby: opens what this host has at the paths, so that a takeover has it whatever becomes of these. Nothing is done while the index
    /// is what it was.
    pub fn hold_files(&mut self) {
        let version = std::fs::metadata(self.dir.join("index"))
            .ok()
            .map(|m| version_of(&m));
        if version == self.read {
            return;
        }
        self.read = version;
        self.rows = read_index(&self.dir);
        let mut open = BTreeMap::new();
        for row in &self.rows {
            let Some(here) = row.here else { continue };
            let found = match self.open.remove(&row.file.hash) {
                Some(file) => Some(file),
                // What is there by now may be a FIFO.
                None => std::fs::OpenOptions::new()
                    .read(true)
                    .custom_flags(libc::O_NONBLOCK)
                    .open(OsStr::from_bytes(&row.file.path))
                    .ok(),
            };
            let same = |f: &File| {
                f.metadata()
                    .is_ok_and(|m| contents(version_of(&m)) == contents(here))
            };
            if let Some(file) = found.filter(same) {
                open.insert(row.file.hash, file);
            }
        }
        self.open = open;
    }

    /// Descriptors of those for the image's first process.
    pub fn pass(&self) -> Vec<(Vec<u8>, i32)> {
        let passed = |(hash, file): (&[u8; 32], &File)| {
            // SAFETY: our own descriptor; the copy is for the image.
            let fd = unsafe { libc::dup(file.as_raw_fd()) };
            (fd >= 0).then(|| (hash.to_vec(), fd))
        };
        self.open.iter().filter_map(passed).collect()
    }

    /// In the image's first process: they can be opened there.
    pub fn passed(&mut self, files: &[(Vec<u8>, i32)]) {
        for (hash, fd) in files {
            let at = PathBuf::from(format!("/proc/self/fd/{fd}"));
            if let (Ok(hash), Ok(m)) = (hash.as_slice().try_into(), std::fs::metadata(&at)) {
                self.held.insert(hash, (version_of(&m), at));
            }
        }
    }

    /// Nobody uses it any more but this.
    pub fn remove(self) {
        if self
            .lock
            .as_ref()
            .is_some_and(|l| flock(l, libc::LOCK_EX | libc::LOCK_NB))
        {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    fn copy(&self, hash: &[u8; 32]) -> PathBuf {
        self.dir.join("files").join(name_of(hash))
    }

    /// Copies, and the paths of what they are copies of.
    fn copies(&self) -> impl Iterator<Item = (PathBuf, Vec<u8>)> {
        let kept = self.rows.iter().filter(|r| r.here.is_none());
        kept.map(|r| (self.copy(&r.file.hash), r.file.path.clone()))
    }

    /// What a takeover needs to open the image's files: contents that were looked at are known.
    pub fn files(&self) -> Files {
        use std::os::unix::fs::MetadataExt;
        let mut files = Files::new(&self.dir);
        for row in &self.rows {
            let version = match row.here {
                Some(v) => Some(v),
                // What came was checked, and nobody else writes there; half of a disk error would have another size.
                None => std::fs::metadata(self.copy(&row.file.hash))
                    .ok()
                    .filter(|m| m.size() == row.file.size)
                    .map(|m| version_of(&m)),
            };
            if let Some(v) = version {
                files.know(v, row.file.hash);
            }
            if let Some((version, at)) = self.held_of(row) {
                files.know(*version, row.file.hash);
                files.is_at(row.file.hash, at.clone());
            }
        }
        files
    }

    /// The file that is held, if nobody has written to it. One that was removed or replaced has another time of change, as it has lost
    /// a name, but the same of its contents.
    fn held_of(&self, row: &Row) -> Option<&(Version, PathBuf)> {
        let held = self.held.get(&row.file.hash)?;
        (row.here.map(contents) == Some(contents(held.0))).then_some(held)
    }

    /// The row with which a file that is open but not mapped is to be opened here.
    pub fn stand_in(&self, row: &FileRow) -> FileRow {
        let mut row = row.clone();
        let known = self.rows.iter().find(|r| r.file.path == row.path);
        let Some(known) = known.filter(|_| row.regular && row.bytes.is_none()) else {
            return row;
        };
        let at = Path::new(OsStr::from_bytes(&row.path));
        if std::fs::metadata(at).is_ok_and(|m| Some(version_of(&m)) == known.here) {
            return row;
        }
        let held = self.held_of(known);
        let copy = self.copy(&known.file.hash);
        let instead = held
            .map(|(_, at)| at.clone())
            .or_else(|| copy.is_file().then_some(copy));
        if let Some(path) = instead {
            row.path = path.into_os_string().into_encoded_bytes();
        }
        row
    }

    /// In a process of the image that goes on here: copies are called by the names of what they stand for.
    pub fn name_copies(&self) {
        for (copy, original) in self.copies() {
            root::stands_for(copy, original);
        }
    }

    /// These are there now. Others may have come meanwhile.
    fn add(&mut self, rows: Vec<Row>) -> Result<(), String> {
        let bad = |e: std::io::Error| format!("{}: {}", self.dir.display(), crate::cli::reason(&e));
        // Not the lock of users, which are many.
        let writer = made(&self.dir.join("writer"), false).map_err(bad)?;
        if !flock(&writer, libc::LOCK_EX) {
            return Err(bad(std::io::Error::last_os_error()));
        }
        // What was at a path before stays behind what is there now: the backup's last snapshot may be of then. What was there
        // before that is not open any more, or has no name and travels with the snapshot.
        let mut now = rows;
        for row in read_index(&self.dir) {
            let others = now.iter().filter(|n| n.file.path == row.file.path);
            if others.clone().count() < 2 && others.clone().all(|n| n.file != row.file) {
                now.push(row);
            }
        }
        let mut bytes = Vec::new();
        put_list(&now, &mut bytes);
        let part = self.dir.join("index.part");
        let mut file = made(&part, true).map_err(bad)?;
        file.write_all(&bytes).map_err(bad)?;
        std::fs::rename(&part, self.dir.join("index")).map_err(bad)?;
        self.rows = now;
        let kept: BTreeSet<PathBuf> = self.copies().map(|(copy, _)| copy).collect();
        for copy in std::fs::read_dir(self.dir.join("files"))
            .into_iter()
            .flatten()
            .flatten()
        {
            // What is still coming has another name than a hash.
            if copy.path().extension().is_none() && !kept.contains(&copy.path()) {
                let _ = std::fs::remove_file(copy.path());
            }
        }
        Ok(())
    }

    /// The same contents on this host.
    fn have(&self, file: &Named, files: &mut Files) -> Option<Row> {
        use std::os::unix::fs::MetadataExt;
        let row = |here| Row {
            file: file.clone(),
            here,
        };
        let path = Path::new(OsStr::from_bytes(&file.path));
        let before = std::fs::metadata(path).ok();
        if let Some(m) = before.filter(|m| m.is_file() && m.size() == file.size) {
            let version = version_of(&m);
            let found = files.identity(path);
            let now = std::fs::metadata(path).ok().map(|m| version_of(&m));
            if found == Some((file.size, file.hash)) && now == Some(version) {
                return Some(row(Some(version)));
            }
        }
        let copy = std::fs::metadata(self.copy(&file.hash)).ok()?;
        (copy.size() == file.size).then(|| row(None))
    }
}

/// What changes when somebody writes to a file: not the time at which it lost a name.
fn contents((dev, ino, size, mtime, _): Version) -> (u64, u64, u64, i64) {
    (dev, ino, size, mtime)
}

fn read_index(dir: &Path) -> Vec<Row> {
    let bytes = std::fs::read(dir.join("index")).unwrap_or_default();
    // A damaged one is none: everything in it will be offered again.
    take_list(&mut bytes.as_slice()).unwrap_or_default()
}

/// A file of this user's alone, made if it is missing.
fn made(path: &Path, empty: bool) -> std::io::Result<File> {
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(empty)
        .mode(0o600)
        .open(path)
}

fn flock(file: &File, how: i32) -> bool {
    // SAFETY: a plain call.
    unsafe { libc::flock(file.as_raw_fd(), how) == 0 }
}

fn same_file(open: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |m: std::fs::Metadata| (m.dev(), m.ino());
    open.metadata().ok().map(id) == std::fs::metadata(path).ok().map(id)
}

/// Removes what no image uses any more: an agent that was killed has left it.
fn sweep(place: &Path, older: Duration) {
    for dir in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let dir = dir.path();
        let Ok(lock) = std::fs::OpenOptions::new().write(true).open(dir.join("lock")) else {
            continue;
        };
        let age = |m: std::fs::Metadata| m.modified().ok()?.elapsed().ok();
        let old = std::fs::metadata(&dir)
            .ok()
            .and_then(age)
            .is_some_and(|age| age >= older);
        if old && flock(&lock, libc::LOCK_EX | libc::LOCK_NB) {
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
}

/// Serves a link that brings files. Returns an exit code.
pub fn take(stream: TcpStream, unproved: Unproved, security: &Security) -> i32 {
    let peer = super::standby::peer_of(&stream);
    let done = roots::introduced(stream, unproved, security).and_then(|(mut link, offer)| {
        let done = taken(&mut link, &offer);
        match &done {
            Ok(()) => send(&mut link, Kind::Here, &[])?,
            Err(why) => drop(send(&mut link, Kind::No, why.as_bytes())),
        }
        let _ = link.close(PATIENCE);
        done
    });
    match done {
        Ok(()) => 0,
        Err(why) => {
            tracing::warn!("files from {peer}: {why}");
            1
        }
    }
}

fn taken(link: &mut Link, offer: &[u8]) -> Result<(), String> {
    let (image, all) = offered(offer)?;
    let place = place()?;
    sweep(&place, UNUSED);
    let mut tree = Tree::hold(image)?;
    // What the primary's host has at a path is looked for here at the same one, so everything can be read, by the user whose agent this is.
    let bad = |e: crate::sys::HostErr| format!("this process cannot be confined: {e}");
    crate::confine::drop_capabilities().map_err(bad)?;
    crate::landlock::writes_only_below(&tree.dir)
        .map(drop)
        .map_err(bad)?;
    take_all(link, all, &mut tree)
}

fn offered(mut offer: &[u8]) -> Result<(u64, Vec<Named>), String> {
    let src = &mut offer;
    let (version, image) = <(u64, u64)>::take(src).ok_or("an offer that is damaged")?;
    if version != VERSION {
        return Err("an offer of another version".to_string());
    }
    let all: Vec<Named> = take_list(src).ok_or("an offer that is damaged")?;
    if all.len() > MOST
        || all
            .iter()
            .any(|f| f.path.len() > roots::MAX_NAME || f.size > LARGEST)
    {
        return Err("an offer of too much".to_string());
    }
    Ok((image, all))
}

fn take_all(link: &mut Link, all: Vec<Named>, tree: &mut Tree) -> Result<(), String> {
    let mut files = tree.files();
    let mut rows = Vec::new();
    for (n, file) in all.into_iter().enumerate() {
        let known = working(link, || Ok(tree.have(&file, &mut files)))?;
        rows.push(match known {
            Some(row) => row,
            None => {
                receive_file(link, n, &file, tree)?;
                Row { file, here: None }
            }
        });
    }
    tree.add(rows)
}

fn receive_file(link: &mut Link, n: usize, file: &Named, tree: &Tree) -> Result<(), String> {
    let shown = String::from_utf8_lossy(&file.path).into_owned();
    let to = tree.copy(&file.hash);
    // Another link may bring the same.
    let part = to.with_extension(format!("part{}", std::process::id()));
    let io = |e: std::io::Error| format!("{shown}: its copy {}: {}", part.display(), crate::cli::reason(&e));
    send(link, Kind::Want, json!({"file": n}).to_string().as_bytes())?;
    let (kind, head) = receive(link)?;
    if kind != Kind::Blob || parsed(&head)?["size"] != file.size {
        return Err(format!("{shown}: the peer sends something else"));
    }
    let done = (|| {
        let mut out = made(&part, true).map_err(io)?;
        let (mut have, mut hash) = (0, Hasher::new());
        while have < file.size {
            let (kind, bytes) = receive(link)?;
            have += bytes.len() as u64;
            if kind != Kind::Data || bytes.is_empty() || have > file.size {
                return Err(format!("{shown}: the peer sends what does not belong here"));
            }
            out.write_all(&bytes).map_err(io)?;
            hash.update(&bytes);
        }
        if hash.finish() != file.hash {
            return Err(format!(
                "{shown}: what came is not what was offered; it changed while it was sent"
            ));
        }
        std::fs::rename(&part, &to).map_err(io)
    })();
    if done.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    done
}

#[cfg(test)]
mod tests;
