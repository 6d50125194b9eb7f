//! The root of an image (`run --image`) on its way to a backup that has not got it.
//!
//! Before a primary connects to a backup's agent, it has its supervisor bring the root there: the guest's processes
//! neither read files nor wait, so a thread of the supervisor does, over a link of its own.
//!
//! ```text
//! primary's supervisor (a thread)             a process of the agent
//!   knock, OFFER (name and digest)  ───────>  unpacked here?                    HERE
//!                                   <───────  WANT digest, from
//!   BLOB (media type, size), DATA.. ───────>  checked, kept in this user's store
//!                                             ... all there: unpacked           HERE / NO
//! ```
//!
//! What an image uses of the host's own tree is brought the same way, behind its root: [`super::tree`].
//!
//! The offer names a manifest by its digest, and everything else follows from that: what is kept has the digest that was
//! asked for. Only blobs of the offered image are given out. A transfer that broke goes on where it was
//! ([`ftl_images::store::Store::partial`]). Neither the agent's loop nor a standby's waits for any of it.

use super::links::Unproved;
use super::tree;
use crate::link::conn::Link;
use crate::link::{self, LinkError, Security};
use crate::platform::root;
use crate::sys::{HostErr, sys};
use ftl_images::digest::Digest;
use ftl_images::image::{self, Image, canonical};
use ftl_images::reference::Reference;
use ftl_images::store::{Blob, MAX_MANIFEST, Store};
use ftl_images::{MEDIA_INDEX, archive};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// Descriptor of the first process' channel to the thread that brings roots.
pub const ENV_ROOTS: &str = "FTVM_INTERNAL_ROOTS";

const KNOCK: &[u8; 8] = b"FTVMROOT";
/// Version of what both sides say.
const VERSION: u64 = 1;
/// How long the other side may be silent; one that works says so every second.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const BUSY: Duration = Duration::from_secs(1);
/// Bytes of a blob in one message.
pub(super) const PIECE: usize = 256 << 10;
/// So many roots are brought at once; the primary asks again for more.
const MOST: usize = 4;
/// Longest name of a root, and longest address.
pub(super) const MAX_NAME: usize = 2048;
/// Between two looks of the primary at its channel, ns.
const LOOK_NS: u64 = 2_000_000;
/// An answer that has not come by then is asked for again, ns.
const AGAIN_NS: u64 = 5_000_000_000;

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// Primary: the root that is to be there, as JSON.
    Offer = 1,
    /// Primary: media type and size of the blob (or size of the file) that was asked for, as JSON. Data follows.
    Blob,
    /// Primary: a piece of it.
    Data,
    /// Backup: a blob, from a byte on, or a file, as JSON.
    Want,
    /// Backup: it works.
    Busy,
    /// Backup: what was offered is there.
    Here,
    /// Either: it cannot be, with the reason.
    No,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        use Kind::*;
        let all = [Offer, Blob, Data, Want, Busy, Here, No];
        all.into_iter().find(|k| *k as u8 == byte)
    }
}

fn knock() -> [u8; super::KNOCK_LEN] {
    let mut b = [0; super::KNOCK_LEN];
    b[..8].copy_from_slice(KNOCK);
    b
}

/// A link brings a root.
pub fn knocked(b: &[u8; super::KNOCK_LEN]) -> bool {
    b[..8] == *KNOCK
}

pub(super) fn send(link: &mut Link, kind: Kind, bytes: &[u8]) -> Result<(), String> {
    link.send(&[&[kind as u8], bytes], PATIENCE)
        .map_err(|e| e.to_string())
}

pub(super) fn receive(link: &mut Link) -> Result<(Kind, Vec<u8>), String> {
    let mut m = link.recv(PATIENCE).map_err(|e| e.to_string())?;
    let kind = m.first().and_then(|b| Kind::of(*b));
    let kind = kind.ok_or("the peer says what is not understood; is it an ftvm of this version?")?;
    m.remove(0);
    if kind == Kind::No {
        return Err(String::from_utf8_lossy(&m).into_owned());
    }
    Ok((kind, m))
}

fn text_of(v: &Value, key: &str) -> Result<String, String> {
    let text = v[key].as_str().map(str::to_string);
    text.ok_or_else(|| "the peer's message is incomplete".to_string())
}

pub(super) fn parsed(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|_| "the peer's message is not JSON".to_string())
}

// The primary's side.

/// What the supervisor needs to bring the root of its image, and files that it uses, to others.
#[derive(Clone)]
struct Bringer {
    security: Security,
    /// Name of the root, if it is an image's.
    root: Option<Vec<u8>>,
    files: Arc<Mutex<Files>>,
}

/// Files of the host's tree.
#[derive(Default)]
struct Files {
    /// What is known of them, while nobody works with it.
    known: Option<tree::Following>,
    /// The agent that has them, and the image whose they are.
    at: Option<(String, u64)>,
    /// Orders so far: one that takes long does not know of those behind it.
    orders: u64,
}

impl Bringer {
    fn new(root: Option<&[u8]>, security: Security) -> Bringer {
        Bringer {
            security,
            root: root.map(<[u8]>::to_vec),
            files: Arc::default(),
        }
    }

    /// Brings everything to an agent. Returns when it is there.
    fn bring(&self, peer: &str, image: u64) -> Result<(), String> {
        if let Some(root) = &self.root {
            bring(peer, root, &self.security)?;
        }
        let (mut known, order) = {
            let mut files = lock(&self.files);
            files.at = None;
            files.orders += 1;
            (files.known.take().unwrap_or_default(), files.orders)
        };
        // It may have lost them: the primary asks when a link has ended.
        known.forget();
        let done = tree::bring(peer, image, &self.security, &mut known);
        let mut files = lock(&self.files);
        if files.orders == order {
            files.known = Some(known);
            files.at = done.is_ok().then(|| (peer.to_string(), image));
        }
        done
    }

    /// Brings what was opened since to whoever has the rest, until the channel is closed.
    fn follow(&self, open: &std::sync::Weak<OwnedFd>) {
        let mut failed = String::new();
        // Files are hashed on the image's CPU.
        crate::sys::step_back();
        while open.strong_count() > 0 {
            std::thread::sleep(tree::AGAIN);
            let mut files = lock(&self.files);
            let Some((peer, image)) = files.at.clone() else {
                continue;
            };
            let (mut known, order) = (files.known.take().unwrap_or_default(), files.orders);
            // Another host may be wanted meanwhile.
            drop(files);
            let done = tree::bring(&peer, image, &self.security, &mut known);
            let mut files = lock(&self.files);
            if files.orders == order {
                files.known = Some(known);
            }
            drop(files);
            if let Err(why) = done
                && failed != why
            {
                crate::talk::note(&format!(
                    "files that the image has opened cannot be brought to {peer}: {why}"
                ));
                failed = why;
            }
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

static PENDING: Mutex<Option<(OwnedFd, Bringer)>> = Mutex::new(None);

fn channel() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = super::arbiter::channel()?;
    // The image's processes keep one end only: the thread ends with them.
    // SAFETY: our own descriptor.
    unsafe { libc::fcntl(theirs.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    Ok((ours, theirs))
}

/// Before the supervisor starts its image with this root, if it is an image's: the channel. Threads do not survive the forks of a
/// start: see [`serve_later`].
pub fn prepare(root: Option<&[u8]>, security: Security) -> std::io::Result<()> {
    let (ours, theirs) = channel()?;
    *lock(&PENDING) = Some((theirs, Bringer::new(root, security)));
    // SAFETY: no other thread yet.
    unsafe { std::env::set_var(ENV_ROOTS, ours.into_raw_fd().to_string()) };
    Ok(())
}

/// In the supervisor, when it forks no more.
pub fn serve_later() {
    let pending = PENDING.lock().ok().and_then(|mut p| p.take());
    if let Some((fd, bringer)) = pending {
        serve(fd, bringer);
    }
}

/// In a standby that takes over: the image's end of a channel.
pub fn serve_taken_over(root: &[u8], security: Security) -> std::io::Result<OwnedFd> {
    let (ours, theirs) = channel()?;
    let root = root::is_of_image(root).then_some(root);
    serve(theirs, Bringer::new(root, security));
    Ok(ours)
}

/// Serves a channel until the other end is closed.
fn serve(fd: OwnedFd, bringer: Bringer) {
    let (fd, under_way) = (Arc::new(fd), Arc::new(Mutex::new(BTreeSet::new())));
    let (follower, open) = (bringer.clone(), Arc::downgrade(&fd));
    std::thread::spawn(move || follower.follow(&open));
    std::thread::spawn(move || {
        let mut buf = vec![0u8; MAX_NAME];
        loop {
            // SAFETY: the buffer is valid for the call.
            let n = unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), 0) };
            // SAFETY: a plain read of this thread's errno.
            let interrupted = n < 0 && unsafe { *libc::__errno_location() } == libc::EINTR;
            if interrupted {
                continue;
            }
            if n <= 0 {
                return;
            }
            let Some((image, peer)) = buf[..n as usize].split_first_chunk() else {
                continue;
            };
            let image = u64::from_le_bytes(*image);
            let peer = String::from_utf8_lossy(peer).into_owned();
            let mut all = lock(&under_way);
            // One that is under way already answers for both.
            if all.contains(&peer) {
                continue;
            }
            if all.len() >= MOST {
                answer(
                    &fd,
                    &peer,
                    Err("too many hosts are being sent the root".to_string()),
                );
                continue;
            }
            all.insert(peer.clone());
            drop(all);
            let (fd, under_way, bringer) = (fd.clone(), under_way.clone(), bringer.clone());
            std::thread::spawn(move || {
                let done = bringer.bring(&peer, image);
                lock(&under_way).remove(&peer);
                answer(&fd, &peer, done);
            });
        }
    });
}

/// Tells the image. A packet that finds no room is lost, and the image asks again.
fn answer(fd: &OwnedFd, peer: &str, done: Result<(), String>) {
    let mut packet = vec![u8::from(done.is_ok())];
    packet.extend((peer.len() as u16).to_le_bytes());
    packet.extend(peer.bytes());
    packet.extend(done.err().unwrap_or_default().bytes());
    packet.truncate(MAX_NAME);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the packet is valid for the call.
    unsafe { libc::send(fd.as_raw_fd(), packet.as_ptr().cast(), packet.len(), flags) };
}

/// Brings the root to the agent at `peer`; returns when it is unpacked there.
fn bring(peer: &str, root: &[u8], security: &Security) -> Result<(), String> {
    let text = |e: LinkError| e.to_string();
    let mut link = link::connect_saying(peer, &knock(), security, PATIENCE).map_err(text)?;
    let name = String::from_utf8_lossy(root).into_owned();
    let offer = json!({"version": VERSION, "root": name});
    send(&mut link, Kind::Offer, offer.to_string().as_bytes())?;
    let mut from = None;
    let mut said = false;
    loop {
        match receive(&mut link)? {
            (Kind::Busy, _) => {}
            (Kind::Here, _) => return Ok(()),
            (Kind::Want, want) => {
                if from.is_none() {
                    from = Some(Shelf::open(root)?);
                }
                let done = match &from {
                    Some(shelf) => shelf.give(&mut link, &want),
                    None => Ok(()),
                };
                if let Err(why) = done {
                    let _ = send(&mut link, Kind::No, why.as_bytes());
                    let _ = link.drain(PATIENCE);
                    return Err(why);
                }
                if !std::mem::replace(&mut said, true) {
                    tracing::info!(peer, "the backup's host at {peer} is sent the image's root");
                }
            }
            _ => return Err("the peer says what does not belong here".to_string()),
        }
    }
}

/// The blobs of one image.
struct Shelf {
    store: Store,
    blobs: Vec<Blob>,
}

impl Shelf {
    fn open(root: &[u8]) -> Result<Shelf, String> {
        let (text, digest) = root::image_of(root).ok_or("the root is no image's")?;
        let store = Store::open()?;
        let (_, blob) = store.find(&digest.to_string()).map_err(|_| {
            format!(
                "the image was removed from this host's store while it runs, so that its root cannot be sent: ftvm image \
                 pull {text}, here or on the backup's host"
            )
        })?;
        let image = Image::open(&store, &blob)?;
        let bytes = store.read(&image.manifest_blob.digest, MAX_MANIFEST)?;
        let mut blobs = archive::children(&bytes)?;
        blobs.extend([image.manifest_blob, blob]);
        Ok(Shelf { store, blobs })
    }

    fn give(&self, link: &mut Link, want: &[u8]) -> Result<(), String> {
        let want = parsed(want)?;
        let digest = Digest::parse(&text_of(&want, "digest")?)?;
        let blob = self.blobs.iter().find(|b| b.digest == digest);
        let blob = blob.ok_or_else(|| format!("{digest} is not part of the image"))?;
        let from = want["from"].as_u64().filter(|n| *n <= blob.size).unwrap_or(0);
        let io = |e: std::io::Error| format!("{digest}: {}", crate::cli::reason(&e));
        let mut file = self.store.blob(&digest)?;
        file.seek(SeekFrom::Start(from)).map_err(io)?;
        let head = json!({"media": blob.media, "size": blob.size, "from": from});
        send(link, Kind::Blob, head.to_string().as_bytes())?;
        let (mut left, mut buf) = (blob.size - from, vec![0; PIECE]);
        while left > 0 {
            let most = buf.len().min(left as usize);
            let n = file.read(&mut buf[..most]).map_err(io)?;
            if n == 0 {
                return Err(format!("{digest}: shorter than it was; pull the image again"));
            }
            send(link, Kind::Data, &buf[..n])?;
            left -= n as u64;
        }
        link.drain(PATIENCE).map_err(|e| e.to_string())
    }
}

// The backup's side.

/// Serves a link that brings a root. Returns an exit code.
pub fn take(stream: TcpStream, unproved: Unproved, security: &Security) -> i32 {
    let peer = stream
        .peer_addr()
        .map_or_else(|_| "an unknown host".to_string(), |a| a.to_string());
    // Who knocks is not known yet: the store is not opened for it, which would keep others from removing images.
    let confined = Store::place().and_then(|dir| confine(&dir));
    match try_take(stream, unproved, security, confined) {
        Ok(()) => 0,
        Err(why) => {
            tracing::warn!("a root from {peer}: {why}");
            1
        }
    }
}

/// What comes is a stranger's until it has been checked, and layers of images are made to be unpacked anywhere: this process, which ends when the
/// root is there, has this user's images and nothing else of the host's files.
fn confine(dir: &Path) -> Result<(), String> {
    let bad = |e: HostErr| format!("this process cannot be confined: {e}");
    crate::confine::drop_capabilities().map_err(bad)?;
    // A kernel without landlock keeps nobody from protection.
    crate::landlock::only_below(dir).map(drop).map_err(bad)
}

/// A link that has shown whose it is, and what it offers.
pub(super) fn introduced(
    stream: TcpStream,
    unproved: Unproved,
    security: &Security,
) -> Result<(Link, Vec<u8>), String> {
    let text = |e: LinkError| e.to_string();
    stream.set_read_timeout(None).map_err(|e| e.to_string())?;
    let mut link = link::over(stream, security).map_err(text)?;
    link.handshake(super::strangers::INTRO_TIME).map_err(text)?;
    let (kind, offer) = receive(&mut link)?;
    if kind != Kind::Offer {
        return Err("it begins with no offer".to_string());
    }
    drop(unproved);
    Ok((link, offer))
}

/// `ready`: whether this process can take a root at all, which the primary is told.
fn try_take(
    stream: TcpStream,
    unproved: Unproved,
    security: &Security,
    ready: Result<(), String>,
) -> Result<(), String> {
    let (mut link, offer) = introduced(stream, unproved, security)?;
    let offer = parsed(&offer)?;
    if offer["version"] != VERSION {
        return Err("it begins with no offer of this version".to_string());
    }
    let done = ready
        .and_then(|()| text_of(&offer, "root"))
        .and_then(|root| unpacked(&mut link, root.as_bytes()));
    match &done {
        Ok(()) => send(&mut link, Kind::Here, &[])?,
        Err(why) => drop(send(&mut link, Kind::No, why.as_bytes())),
    }
    let _ = link.close(PATIENCE);
    done
}

/// The root is unpacked here when this returns.
fn unpacked(link: &mut Link, root: &[u8]) -> Result<(), String> {
    if root.len() > MAX_NAME {
        return Err("a name of a root that is too long".to_string());
    }
    let (text, digest) = root::image_of(root).ok_or("what is offered is no image's root")?;
    let reference = Reference::parse(&text)?;
    if working(link, || root::on_host(root)).is_ok() {
        return Ok(());
    }
    let store = &Store::open()?;
    let outer = small(link, store, &digest)?;
    let inner = match canonical(&outer.media) {
        MEDIA_INDEX => {
            let bytes = store.read(&outer.digest, MAX_MANIFEST)?;
            let index = serde_json::from_slice(&bytes).map_err(|e| format!("{digest}: {e}"))?;
            small(link, store, &image::choose(&index)?.digest)?
        }
        _ => outer.clone(),
    };
    let manifest = store.read(&inner.digest, MAX_MANIFEST)?;
    image::manifest(&manifest)?;
    for blob in archive::children(&manifest)?.iter().rev() {
        large(link, store, blob)?;
    }
    keep(store, &reference, &outer)?;
    let known = root.to_vec();
    working(link, move || root::on_host(&known))?;
    tracing::info!(root = text, "the root of {text} was sent here and is unpacked");
    Ok(())
}

/// A name in the store keeps the image. One that means another image here stays with that.
fn keep(store: &Store, reference: &Reference, blob: &Blob) -> Result<(), String> {
    let name = reference.name();
    let all = store.list()?;
    if all
        .iter()
        .any(|e| e.subject.is_none() && e.blob.digest == blob.digest)
    {
        return Ok(());
    }
    let taken = all.iter().any(|e| e.name.as_deref() == Some(&name));
    let own = Reference {
        tag: None,
        digest: Some(blob.digest),
        ..reference.clone()
    };
    let named = !taken && reference.tag.is_some();
    store.tag(if named { reference } else { &own }, blob)
}

/// Asks for a blob; what comes is given to `sink`.
fn want(
    link: &mut Link,
    digest: &Digest,
    from: u64,
    mut sink: impl FnMut(&[u8]) -> Result<(), String>,
    fits: impl FnOnce(&Value) -> Result<u64, String>,
) -> Result<Value, String> {
    let wanted = json!({"digest": digest.to_string(), "from": from});
    send(link, Kind::Want, wanted.to_string().as_bytes())?;
    let (kind, head) = receive(link)?;
    let head = parsed(&head)?;
    if kind != Kind::Blob || head["from"] != from {
        return Err(format!("{digest}: the peer sends another part"));
    }
    let size = fits(&head)?;
    let mut have = from;
    while have < size {
        let (kind, bytes) = receive(link)?;
        let more = have + bytes.len() as u64;
        if kind != Kind::Data || bytes.is_empty() || more > size {
            return Err(format!("{digest}: the peer sends what does not belong here"));
        }
        sink(&bytes)?;
        have = more;
    }
    Ok(head)
}

/// A manifest or an index.
fn small(link: &mut Link, store: &Store, digest: &Digest) -> Result<Blob, String> {
    let mut bytes = Vec::new();
    let head = want(
        link,
        digest,
        0,
        |b| {
            bytes.extend_from_slice(b);
            Ok(())
        },
        |head| {
            let size = head["size"].as_u64().filter(|n| *n <= MAX_MANIFEST);
            size.ok_or_else(|| format!("{digest}: a manifest of more than {MAX_MANIFEST} bytes"))
        },
    )?;
    let found = Digest::of(&bytes);
    if found != *digest {
        return Err(format!("{digest}: its bytes are {found}"));
    }
    store.put(canonical(&text_of(&head, "media")?), &bytes)
}

/// A blob of which the manifest says how long it is.
fn large(link: &mut Link, store: &Store, blob: &Blob) -> Result<(), String> {
    if store.has(blob) {
        return Ok(());
    }
    // Another link may be bringing it just now.
    let (path, mut file) = working(link, || store.partial(blob))?;
    let io = |e: std::io::Error| format!("{}: {}", path.display(), crate::cli::reason(&e));
    if store.has(blob) {
        return Ok(());
    }
    let mut have = file.metadata().map_err(io)?.len();
    if have > blob.size {
        file.set_len(0).map_err(io)?;
        have = 0;
    }
    if have < blob.size {
        file.seek(SeekFrom::Start(have)).map_err(io)?;
        want(
            link,
            &blob.digest,
            have,
            |b| file.write_all(b).map_err(io),
            |head| match head["size"] == blob.size {
                true => Ok(blob.size),
                false => Err(format!("{}: the peer's has another size", blob.digest)),
            },
        )?;
    }
    working(link, || store.publish(blob, &path, &mut file))
}

/// Works while the other side hears that it does.
pub(super) fn working<T: Send>(
    link: &mut Link,
    work: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    std::thread::scope(|s| {
        let (tell, told) = mpsc::channel();
        let done = s.spawn(move || {
            let done = work();
            let _ = tell.send(());
            done
        });
        let mut alive = Ok(());
        while told.recv_timeout(BUSY) == Err(mpsc::RecvTimeoutError::Timeout) {
            // A peer that has gone does not end the work: it will come again for what is done.
            if alive.is_ok() {
                alive = send(link, Kind::Busy, &[]);
            }
        }
        let done = done.join().map_err(|_| "the work has panicked".to_string())??;
        alive.map(|()| done)
    })
}

// In the image's process that has the token.

/// The image's end of the channel.
#[derive(Debug)]
pub struct Client {
    fd: OwnedFd,
    image: u64,
    /// The agent that is being sent the root.
    asked: Option<String>,
    /// The agent that has it.
    at: Option<String>,
    /// When it was asked for, and when to look next, ns.
    asked_at: u64,
    next_look: u64,
}

/// How the root stands at an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum At {
    /// It is there.
    Here,
    /// It is on its way, or not known yet.
    Coming,
    /// It could not be brought there.
    Failed(String),
}

impl Client {
    /// Of a channel.
    pub fn new(fd: OwnedFd, image: u64) -> Client {
        Client {
            fd,
            image,
            asked: None,
            at: None,
            asked_at: 0,
            next_look: 0,
        }
    }

    /// In the image's first process: what the supervisor left.
    pub fn inherited(image: u64) -> Option<Client> {
        let fd: i32 = std::env::var(ENV_ROOTS).ok()?.parse().ok()?;
        // SAFETY: the supervisor left it open for us.
        Some(Client::new(unsafe { OwnedFd::from_raw_fd(fd) }, image))
    }

    /// What is there may have been removed, and more may be needed now.
    pub fn forget(&mut self) {
        self.at = None;
    }

    /// Has the root brought to the agent `peer` and tells how that stands. Never waits.
    pub fn look(&mut self, peer: &str, now: u64) -> At {
        if self.at.as_deref() == Some(peer) {
            return At::Here;
        }
        // An answer may be lost; a question about what is under way costs nothing.
        if self.asked.as_deref() != Some(peer) || now > self.asked_at + AGAIN_NS {
            self.asked = self.ask(peer).then(|| peer.to_string());
            self.asked_at = now;
            return At::Coming;
        }
        if now < self.next_look {
            return At::Coming;
        }
        self.next_look = now + LOOK_NS;
        while let Some((of, done)) = self.answer() {
            if of != peer {
                continue;
            }
            self.asked = None;
            return match done {
                Ok(()) => {
                    self.at = Some(of);
                    At::Here
                }
                Err(why) => At::Failed(why),
            };
        }
        At::Coming
    }

    fn ask(&self, peer: &str) -> bool {
        let (fd, flags) = (self.fd.as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        let mut packet = self.image.to_le_bytes().to_vec();
        packet.extend(peer.bytes());
        // SAFETY: the packet is valid for reads.
        unsafe { sys!(libc::SYS_sendto, fd, packet.as_ptr(), packet.len(), flags, 0, 0) }.is_ok()
    }

    fn answer(&self) -> Option<(String, Result<(), String>)> {
        let mut buf = [0u8; MAX_NAME];
        let (fd, flags) = (self.fd.as_raw_fd(), libc::MSG_DONTWAIT);
        // SAFETY: the buffer is valid for writes.
        let got = unsafe { sys!(libc::SYS_recvfrom, fd, buf.as_mut_ptr(), buf.len(), flags, 0, 0) };
        let n = match got {
            Ok(n) => n as usize,
            Err(HostErr(_)) => return None,
        };
        read_answer(buf.get(..n)?)
    }
}

fn read_answer(packet: &[u8]) -> Option<(String, Result<(), String>)> {
    let (ok, rest) = packet.split_first()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (peer, why) = rest.split_at_checked(u16::from_le_bytes(*len) as usize)?;
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let done = match ok {
        1 => Ok(()),
        _ => Err(text(why)),
    };
    Some((text(peer), done))
}

#[cfg(test)]
mod tests;
