//! The images of a user: an ordinary OCI image layout, and unpacked roots beside it.
//!
//! `$XDG_DATA_HOME/ftvm/images` (else `~/.local/share/ftvm/images`), 0700:
//!
//! * `oci-layout`, `index.json`, `blobs/sha256/HEX`: the layout, as skopeo and others read it. An image's name is the annotation
//!   `org.opencontainers.image.ref.name`. What belongs to an image ([`crate::artifact`]) is a manifest in the index
//!   with `subject`.
//! * `roots/HEX`: the unpacked root of one chain of layers, by chain id, never changed; `roots/HEX.lock` is held shared by runs.
//! * `warm/HEX`: the snapshot of that digest, made ready to start from; never changed.
//! * `ingest/`: what is being fetched or unpacked.
//! * `lock`: shared by whoever adds, exclusive for [`Store::collect`]. `index.lock`: who changes `index.json`.
//!
//! A blob, a root and the index appear whole or not at all.

use crate::digest::{Digest, Hashed};
use crate::image::{Image, canonical};
use crate::reference::Reference;
use crate::tree::{remove_tree, tree_size};
use crate::{MEDIA_INDEX, MEDIA_MANIFEST, Result, reason};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Largest manifest or index that is read, bytes; what registries accept.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Largest configuration that is read, bytes.
pub const MAX_CONFIG: u64 = 8 << 20;
/// Annotation with an image's name.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation of an entry that has lost its name: the name.
const WAS: &str = "org.ftlinux.was";

/// A descriptor: what a blob is, how long, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Media type.
    pub media: String,
    /// Identity.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

impl Blob {
    /// Reads a descriptor.
    pub fn from_json(v: &Value) -> Result<Blob> {
        let text = |k: &str| v.get(k).and_then(Value::as_str);
        Ok(Blob {
            media: text("mediaType").unwrap_or_default().to_string(),
            digest: Digest::parse(text("digest").ok_or("a descriptor has no digest")?)?,
            size: v
                .get("size")
                .and_then(Value::as_u64)
                .ok_or("a descriptor has no size")?,
        })
    }

    /// As a descriptor.
    pub fn json(&self) -> Value {
        json!({"mediaType": self.media, "digest": self.digest.to_string(), "size": self.size})
    }
}

/// An entry of the index.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name; `None` for what belongs to another manifest.
    pub name: Option<String>,
    /// Its manifest.
    pub blob: Blob,
    /// Manifest that it belongs to (a signature, a snapshot, a log).
    pub subject: Option<Digest>,
    /// The name that it had last, if it has lost it; empty if that is not known.
    pub was: Option<String>,
}

/// An annotation of a row of the index.
fn note<'a>(row: &'a Value, key: &str) -> Option<&'a str> {
    row.get("annotations")?.get(key)?.as_str()
}

fn is_of(row: &Value, digest: &str) -> bool {
    row.get("digest").and_then(Value::as_str) == Some(digest)
}

/// A row that stays without its name.
fn take_name(row: &mut Value) {
    let was = note(row, REF_NAME).or(note(row, WAS)).unwrap_or_default();
    row["annotations"] = json!({WAS: was});
}

/// A manifest that has a name, or a row, needs no other row without one.
fn tidy(all: &mut Vec<Value>) {
    let of = |v: &Value| v.get("digest").and_then(Value::as_str).map(str::to_string);
    let mut there: BTreeSet<_> = all.iter().filter(|v| note(v, WAS).is_none()).map(of).collect();
    all.retain(|v| note(v, WAS).is_none() || there.insert(of(v)));
}

/// This user's images, locked against collection while this value lives.
pub struct Store {
    dir: PathBuf,
    lock: File,
}

fn bad(dir: &Path) -> impl Fn(std::io::Error) -> String + '_ {
    move |e| format!("image store {}: {}", dir.display(), reason(&e))
}

/// Why a blob could not be read.
enum Unread {
    /// It is not there, or is not what it should be: reading it again would not help.
    Gone(String),
    /// The disk or this process could not: the blob may be there and whole.
    Disk(String),
}

fn absent(digest: &Digest, e: &std::io::Error) -> String {
    format!("{digest}: {}; pull the image again", reason(e))
}

/// Where the store of this user is.
pub fn default_dir() -> Result<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|d| !d.is_empty());
    let data = match (var("XDG_DATA_HOME"), var("HOME")) {
        (Some(d), _) => PathBuf::from(d),
        (None, Some(h)) => PathBuf::from(h).join(".local/share"),
        (None, None) => return Err("image store: neither XDG_DATA_HOME nor HOME is set; set one".into()),
    };
    Ok(data.join("ftvm/images"))
}

fn subject_of(row: &Value) -> Option<&str> {
    row.pointer("/annotations")?.get(crate::SUBJECT)?.as_str()
}

fn digest_of(row: &Value) -> Option<Digest> {
    Digest::parse(row.get("digest")?.as_str()?).ok()
}

/// Leaves images, and what belongs to one of them, or to what does.
fn without_orphans(all: &mut Vec<Value>) {
    loop {
        let there: BTreeSet<Digest> = all.iter().filter_map(digest_of).collect();
        let before = all.len();
        all.retain(|v| subject_of(v).is_none_or(|s| Digest::parse(s).is_ok_and(|s| there.contains(&s))));
        if all.len() == before {
            return;
        }
    }
}

fn lock_file(path: &Path) -> std::io::Result<File> {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

impl Store {
    /// Opens this user's store; made if missing, refused if others could write it.
    pub fn open() -> Result<Store> {
        Self::open_at(&default_dir()?)
    }

    /// Directory of this user's store, made if missing, refused if others could write it. It is not locked: what is there may be removed.
    pub fn place() -> Result<PathBuf> {
        let dir = default_dir()?;
        Self::place_at(&dir)?;
        Ok(dir)
    }

    fn place_at(dir: &Path) -> Result<()> {
        let err = bad(dir);
        for sub in ["blobs/sha256", "roots", "warm", "ingest"] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir.join(sub))
                .map_err(&err)?;
        }
        let meta = std::fs::symlink_metadata(dir).map_err(&err)?;
        let uid = rustix::process::getuid().as_raw();
        if !meta.is_dir() || meta.uid() != uid || meta.mode() & 0o077 != 0 {
            return Err(format!(
                "image store {}: not a directory that only you can enter; chmod 700 it, or set XDG_DATA_HOME",
                dir.display()
            ));
        }
        Ok(())
    }

    /// Opens the store in a directory.
    pub fn open_at(dir: &Path) -> Result<Store> {
        let err = bad(dir);
        Self::place_at(dir)?;
        let lock = lock_file(&dir.join("lock")).map_err(&err)?;
        lock.lock_shared().map_err(&err)?;
        let store = Store {
            dir: dir.to_path_buf(),
            lock,
        };
        if !dir.join("oci-layout").exists() {
            store.write_whole("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
        }
        Ok(store)
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn err(&self) -> impl Fn(std::io::Error) -> String + '_ {
        bad(&self.dir)
    }

    fn write_whole(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (path, mut file) = self.temporary()?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&path, self.dir.join(name)))
            .map_err(|e| {
                let _ = std::fs::remove_file(&path);
                self.err()(e)
            })
    }

    /// A file of our own in `ingest`.
    fn temporary(&self) -> Result<(PathBuf, File)> {
        let path = self.ingest()?;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        Ok((path, file.map_err(self.err())?))
    }

    /// A name in `ingest` that nobody uses.
    pub fn ingest(&self) -> Result<PathBuf> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = self
                .dir
                .join("ingest")
                .join(format!("{}-{n}", std::process::id()));
            if path.symlink_metadata().is_err() {
                return Ok(path);
            }
        }
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    /// A blob of that size is there.
    pub fn has(&self, blob: &Blob) -> bool {
        std::fs::metadata(self.blob_path(&blob.digest)).is_ok_and(|m| m.is_file() && m.len() == blob.size)
    }

    /// Opens a blob.
    pub fn blob(&self, digest: &Digest) -> Result<File> {
        File::open(self.blob_path(digest)).map_err(|e| absent(digest, &e))
    }

    /// A small blob, checked.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        self.try_read(digest, limit).map_err(|e| match e {
            Unread::Gone(why) | Unread::Disk(why) => why,
        })
    }

    fn try_read(&self, digest: &Digest, limit: u64) -> std::result::Result<Vec<u8>, Unread> {
        let mut bytes = Vec::new();
        let found =
            File::open(self.blob_path(digest)).and_then(|f| f.take(limit + 1).read_to_end(&mut bytes));
        match found {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Unread::Gone(absent(digest, &e)));
            }
            Err(e) => return Err(Unread::Disk(format!("{digest}: {}", self.err()(e)))),
        }
        if bytes.len() as u64 > limit {
            return Err(Unread::Gone(format!("{digest}: larger than {limit} bytes")));
        }
        if Digest::of(&bytes) != *digest {
            return Err(Unread::Gone(self.throw_away(digest)));
        }
        Ok(bytes)
    }

    /// Takes a blob that is not what its name says out of the store: by its length alone the next pull would keep it.
    /// Returns what to say.
    fn throw_away(&self, digest: &Digest) -> String {
        let gone = std::fs::remove_file(self.blob_path(digest)).is_ok();
        let what = if gone { " and was removed" } else { "" };
        format!("{digest}: the blob in the store was damaged{what}; pull the image again")
    }

    /// The same if it is so: for a blob that did not unpack to what it should.
    pub fn check(&self, digest: &Digest) -> Result<()> {
        let mut blob = Hashed::new(self.blob(digest)?);
        std::io::copy(&mut blob, &mut std::io::sink()).map_err(self.err())?;
        match std::mem::take(&mut blob.hasher).finish() == *digest {
            true => Ok(()),
            false => Err(self.throw_away(digest)),
        }
    }

    /// A blob of these bytes.
    pub fn put(&self, media: &str, bytes: &[u8]) -> Result<Blob> {
        let mut w = self.writer()?;
        w.write_all(bytes).map_err(self.err())?;
        self.finish(w, media)
    }

    /// A blob that is to be written; nothing is left of it if it is dropped.
    pub fn writer(&self) -> Result<Writer> {
        let (path, file) = self.temporary()?;
        Ok(Writer {
            path,
            out: Hashed::new(file),
        })
    }

    /// The blob is complete.
    pub fn finish(&self, mut w: Writer, media: &str) -> Result<Blob> {
        let hasher = std::mem::take(&mut w.out.hasher);
        let blob = Blob {
            media: media.to_string(),
            digest: hasher.finish(),
            size: w.out.len,
        };
        w.out.inner.sync_all().map_err(self.err())?;
        std::fs::rename(&w.path, self.blob_path(&blob.digest)).map_err(self.err())?;
        Ok(blob)
    }

    /// The blob is complete if it is the one that was meant; otherwise nothing is kept.
    pub fn expect(&self, mut w: Writer, digest: &Digest) -> Result<()> {
        let found = std::mem::take(&mut w.out.hasher).finish();
        if found != *digest {
            return Err(format!("{digest}: its bytes are {found}"));
        }
        w.out.inner.sync_all().map_err(self.err())?;
        std::fs::rename(&w.path, self.blob_path(digest)).map_err(self.err())
    }

    /// Where a blob that is being fetched grows, locked; and its length so far. It stays when the fetch fails, and the next one
    /// goes on there.
    pub fn partial(&self, blob: &Blob) -> Result<(PathBuf, File)> {
        let path = self
            .dir
            .join("ingest")
            .join(format!("{}.part", blob.digest.hex()));
        let file = lock_file(&path).map_err(self.err())?;
        file.lock().map_err(self.err())?;
        Ok((path, file))
    }

    /// The fetched blob is complete if its bytes are those that were asked for; otherwise it is removed.
    pub fn publish(&self, blob: &Blob, path: &Path, file: &mut File) -> Result<()> {
        if self.has(blob) {
            return Ok(());
        }
        file.rewind().map_err(self.err())?;
        let mut hashed = Hashed::new(&*file);
        std::io::copy(&mut hashed, &mut std::io::sink()).map_err(self.err())?;
        let (len, digest) = (hashed.len, hashed.hasher.finish());
        if len != blob.size || digest != blob.digest {
            let _ = std::fs::remove_file(path);
            return Err(format!(
                "{}: got {len} bytes with {digest}, expected {} bytes; they are thrown away",
                blob.digest, blob.size
            ));
        }
        file.sync_all().map_err(self.err())?;
        std::fs::rename(path, self.blob_path(&blob.digest)).map_err(self.err())
    }

    fn index(&self) -> Result<Vec<Value>> {
        let path = self.dir.join("index.json");
        let text = match std::fs::read(&path) {
            Ok(t) => t,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.err()(e)),
        };
        let value: Value = serde_json::from_slice(&text)
            .map_err(|e| format!("{}: {e}; the index is damaged", path.display()))?;
        Ok(value
            .get("manifests")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default())
    }

    fn change_index(&self, change: impl FnOnce(&mut Vec<Value>)) -> Result<()> {
        let lock = lock_file(&self.dir.join("index.lock")).map_err(self.err())?;
        lock.lock().map_err(self.err())?;
        let mut all = self.index()?;
        change(&mut all);
        let text = json!({"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": all}).to_string();
        self.write_whole("index.json", text.as_bytes())
    }

    /// All entries, by name.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let mut out = Vec::new();
        for v in self.index()? {
            out.push(Entry {
                name: note(&v, REF_NAME).map(str::to_string),
                subject: note(&v, crate::SUBJECT).and_then(|s| Digest::parse(s).ok()),
                was: note(&v, WAS).map(str::to_string),
                blob: Blob::from_json(&v)?,
            });
        }
        out.sort_by(|a, b| (&a.name, a.blob.digest).cmp(&(&b.name, b.blob.digest)));
        Ok(out)
    }

    /// Gives a manifest a name; what had the name loses it, and stays until a sweep finds nobody who needs it.
    pub fn tag(&self, reference: &Reference, blob: &Blob) -> Result<()> {
        let name = reference.name();
        let mut row = blob.json();
        row["annotations"] = json!({REF_NAME: name});
        self.change_index(|all| {
            all.iter_mut()
                .filter(|v| note(v, REF_NAME) == Some(&name))
                .for_each(take_name);
            all.push(row);
            tidy(all);
        })
    }

    /// Adds a manifest that belongs to another one.
    pub fn attach(&self, blob: &Blob, artifact: &str, subject: &Digest) -> Result<()> {
        let mut row = blob.json();
        row["artifactType"] = artifact.into();
        row["annotations"] = json!({crate::SUBJECT: subject.to_string()});
        self.change_index(|all| {
            let digest = blob.digest.to_string();
            all.retain(|v| v.get("digest").and_then(Value::as_str) != Some(&digest));
            all.push(row);
        })
    }

    /// Takes a manifest that belongs to another one out, and what belongs to it.
    pub fn detach(&self, digest: &Digest) -> Result<()> {
        self.change_index(|all| {
            all.retain(|v| subject_of(v).is_none() || digest_of(v) != Some(*digest));
            without_orphans(all);
        })
    }

    /// The manifest that a name, a digest or the beginning of one (12 digits or more) means, and its name.
    pub fn find(&self, text: &str) -> Result<(Option<String>, Blob)> {
        let all = self.list()?;
        let images = || all.iter().filter(|e| e.subject.is_none());
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() >= 12 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            let found: BTreeSet<Digest> = images()
                .map(|e| e.blob.digest)
                .filter(|d| d.hex().starts_with(hex))
                .collect();
            if found.len() > 1 {
                return Err(format!("{text} does not name one image; write more digits"));
            }
            if let Some(e) = images().find(|e| found.contains(&e.blob.digest)) {
                return Ok((e.name.clone(), e.blob.clone()));
            }
            if let Some(digest) = Digest::from_hex(hex) {
                return match self.whole(&digest) {
                    Some(blob) => Ok((None, blob)),
                    None => Err(format!(
                        "no image {text} is here; ftvm image pull REPOSITORY@{digest} fetches it"
                    )),
                };
            }
        }
        let reference = Reference::parse(text)?;
        let missing = || {
            // By its tag it would come under that name, whatever is there by it.
            let what = reference.digest.map_or(text.to_string(), |d| reference.at(&d));
            format!(
                "no image {text} is here; ftvm image pull {what} fetches it, ftvm image ls lists what is here"
            )
        };
        let (name, digest) = (reference.name(), reference.digest);
        let fits = |e: &&Entry| match digest {
            Some(d) => e.blob.digest == d,
            None => e.name.as_deref() == Some(&name),
        };
        if let Some(e) = images().find(fits) {
            return Ok((e.name.clone(), e.blob.clone()));
        }
        let blob = digest.and_then(|d| self.whole(&d)).ok_or_else(missing)?;
        Ok((None, blob))
    }

    /// The image of that digest without a name, if all of it is there.
    fn whole(&self, digest: &Digest) -> Option<Blob> {
        let bytes = self.read(digest, MAX_MANIFEST).ok()?;
        crate::image::manifest(&bytes).ok()?;
        let blob = Blob {
            media: MEDIA_MANIFEST.to_string(),
            digest: *digest,
            size: bytes.len() as u64,
        };
        let image = Image::open(self, &blob).ok()?;
        image.layers.iter().all(|(b, ..)| self.has(b)).then_some(blob)
    }

    /// Takes a name from an image. Without a name, the next sweep takes it and what belongs to it if no run needs it.
    pub fn untag(&self, text: &str) -> Result<Blob> {
        let (name, blob) = self.find(text)?;
        let digest = blob.digest.to_string();
        self.change_index(|all| {
            all.iter_mut()
                .filter(|v| is_of(v, &digest) && note(v, REF_NAME) == name.as_deref())
                .for_each(take_name);
            tidy(all);
        })?;
        Ok(blob)
    }

    /// Removes blobs and roots that no image needs any more, and what is left of fetches that failed. Waits for others to
    /// finish. `named` tells the manifests that are needed without a name. Returns bytes, and what stays only because
    /// runs use it: manifests and roots.
    pub fn collect(&self, named: impl FnOnce() -> Result<BTreeSet<Digest>>) -> Result<(u64, Vec<Digest>)> {
        self.lock.unlock().map_err(self.err())?;
        self.lock.lock().map_err(self.err())?;
        let done = self.settle(named).and_then(|mut used| {
            let (freed, roots) = self.sweep()?;
            used.extend(roots);
            Ok((freed, used))
        });
        self.lock
            .unlock()
            .and_then(|()| self.lock.lock_shared())
            .map_err(self.err())?;
        done
    }

    /// Entries that have lost their names go, but for those that a run needs.
    fn settle(&self, named: impl FnOnce() -> Result<BTreeSet<Digest>>) -> Result<Vec<Digest>> {
        let all = self.list()?;
        let mut used = BTreeSet::new();
        for e in all.iter().filter(|e| e.was.is_some()) {
            if let Some(image) = self.try_open(&e.blob)?
                && self.is_used(&image.chain())?
            {
                used.insert(e.blob.digest);
            }
        }
        // After the locks: a run whose lock is gone has been noted before.
        let named = named()?;
        let there = |d: &Digest| all.iter().any(|e| e.blob.digest == *d);
        let back: Vec<Value> = named
            .iter()
            .filter(|d| !there(d))
            .filter_map(|d| self.whole(d))
            .map(|blob| {
                let mut row = blob.json();
                row["annotations"] = json!({WAS: ""});
                row
            })
            .collect();
        used.extend(named);
        self.change_index(|rows| {
            rows.retain(|v| {
                let digest = v.get("digest").and_then(Value::as_str).unwrap_or_default();
                note(v, WAS).is_none() || Digest::parse(digest).is_ok_and(|d| used.contains(&d))
            });
            rows.extend(back);
        })?;
        let list = self.list()?;
        Ok(list
            .iter()
            .filter(|e| e.was.is_some())
            .map(|e| e.blob.digest)
            .collect())
    }

    /// Somebody holds the lock of a root.
    fn is_used(&self, chain: &Digest) -> Result<bool> {
        match File::open(self.dir.join("roots").join(format!("{}.lock", chain.hex()))) {
            Ok(file) => Ok(file.try_lock().is_err()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(self.err()(e)),
        }
    }

    /// An image; `None` if it is not there or is damaged.
    fn try_open(&self, blob: &Blob) -> Result<Option<Image>> {
        let mut disk = None;
        let mut read = |digest: &Digest, limit| {
            self.try_read(digest, limit).map_err(|e| match e {
                Unread::Gone(why) => why,
                Unread::Disk(why) => disk.insert(why).clone(),
            })
        };
        let image = Image::open_by(&mut read, blob);
        match disk {
            Some(why) => Err(why),
            None => Ok(image.ok()),
        }
    }

    fn sweep(&self) -> Result<(u64, Vec<Digest>)> {
        let (mut blobs, mut roots) = (BTreeSet::new(), BTreeSet::new());
        // What belongs to an image that was refused when it came, and so has no name.
        self.change_index(without_orphans)?;
        for e in self.list()? {
            blobs.insert(e.blob.digest);
            self.reach(&e.blob, &mut blobs, &mut roots, 0)?;
        }
        let mut freed = 0;
        for folder in ["blobs/sha256", "warm"] {
            for item in std::fs::read_dir(self.dir.join(folder))
                .map_err(self.err())?
                .flatten()
            {
                let known = item
                    .file_name()
                    .to_str()
                    .and_then(Digest::from_hex)
                    .is_some_and(|d| blobs.contains(&d));
                if !known {
                    freed += item.metadata().map_or(0, |m| m.len());
                    std::fs::remove_file(item.path()).map_err(self.err())?;
                }
            }
        }
        let mut used = Vec::new();
        for item in std::fs::read_dir(self.dir.join("roots"))
            .map_err(self.err())?
            .flatten()
        {
            let Some(chain) = item.file_name().to_str().and_then(Digest::from_hex) else {
                continue;
            };
            if roots.contains(&chain) {
                continue;
            }
            let lock = self.dir.join("roots").join(format!("{}.lock", chain.hex()));
            if lock_file(&lock).map_err(self.err())?.try_lock().is_err() {
                used.push(chain);
                continue;
            }
            // Out of sight first: a removal that is cut short leaves no half root.
            let gone = self.ingest()?;
            std::fs::rename(item.path(), &gone).map_err(self.err())?;
            let _ = std::fs::remove_file(lock);
        }
        // What cannot be removed does not keep the rest.
        let mut kept = None;
        for item in std::fs::read_dir(self.dir.join("ingest"))
            .map_err(self.err())?
            .flatten()
        {
            match remove_tree(&item.path()) {
                Ok(n) => freed += n,
                Err(e) => kept = kept.or(Some(format!("{}: {}", item.path().display(), reason(&e)))),
            }
        }
        match kept {
            Some(why) => Err(format!("not all of what is left over could be removed: {why}")),
            None => Ok((freed, used)),
        }
    }

    /// Everything that a manifest or index names.
    fn reach(
        &self,
        blob: &Blob,
        blobs: &mut BTreeSet<Digest>,
        roots: &mut BTreeSet<Digest>,
        depth: u32,
    ) -> Result<()> {
        // What names its manifests as docker does keeps its blobs as well.
        if depth > 2 || ![MEDIA_INDEX, MEDIA_MANIFEST].contains(&canonical(&blob.media)) {
            return Ok(());
        }
        // What is not there, or is damaged, keeps nothing alive. A disk that does not answer says nothing of the sort.
        let bytes = match self.try_read(&blob.digest, MAX_MANIFEST) {
            Ok(bytes) => bytes,
            Err(Unread::Gone(_)) => return Ok(()),
            Err(Unread::Disk(why)) => return Err(why),
        };
        let Ok(v) = serde_json::from_slice::<Value>(&bytes) else {
            return Ok(());
        };
        let config = v.get("config").into_iter();
        let lists = ["layers", "manifests"]
            .iter()
            .filter_map(|k| v.get(k)?.as_array())
            .flatten();
        for child in config.chain(lists).filter_map(|d| Blob::from_json(d).ok()) {
            blobs.insert(child.digest);
            self.reach(&child, blobs, roots, depth + 1)?;
        }
        if let Some(image) = self.try_open(blob)? {
            roots.insert(image.chain());
        }
        Ok(())
    }

    /// Where the root of a chain of layers is, or would be.
    pub fn root_path(&self, chain: &Digest) -> PathBuf {
        self.dir.join("roots").join(chain.hex())
    }

    /// Lock that a run holds while it uses a root.
    pub fn use_root(&self, chain: &Digest) -> Result<File> {
        let file =
            lock_file(&self.dir.join("roots").join(format!("{}.lock", chain.hex()))).map_err(self.err())?;
        file.lock_shared().map_err(self.err())?;
        Ok(file)
    }

    /// Bytes on disk of blobs, and of what is unpacked (a file in several roots is counted once).
    pub fn disk_use(&self) -> (u64, u64) {
        let mut seen = BTreeSet::new();
        let mut of = |name: &str| tree_size(&self.dir.join(name), &mut seen);
        (of("blobs"), of("roots") + of("warm"))
    }
}

/// A blob that is being written.
pub struct Writer {
    path: PathBuf,
    out: Hashed<File>,
}

impl Write for Writer {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.out.write(buf)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Gone already if it was finished.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
pub(crate) mod tests;
