//! `ftvm image attach`, `detach`, `extract`: snapshots and logs that belong to an image, kept with it as artifacts.

use super::{reason, say, warm};
use crate::door::read::Reader;
use crate::door::start;
use crate::snap::file::STATE;
use crate::snap::state::HostState;
use crate::store::file::{HostFile, Unpublished};
use crate::store::open::{Opener, digits, passphrase};
use ftl_core::log::Record;
use ftl_core::snap::Snapshot;
use ftl_images::artifact::{self, Artifact};
use ftl_images::digest::Digest;
use ftl_images::image::Image;
use ftl_images::store::Store;
use ftl_images::unpack::components;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Compression of a log: its segments are compressed already, copies of files are not.
const LEVEL: i32 = 3;

/// Options of `image attach`.
#[derive(clap::Args)]
pub struct AttachArgs {
    /// File with the passphrase of an encrypted snapshot
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// The image
    #[arg(value_name = "REF")]
    pub image: String,
    /// A whole snapshot (ftvm checkpoint, ftvm snapshot squash), or the directory of a log (ftvm record)
    #[arg(value_name = "FILE|DIR")]
    what: PathBuf,
}

/// Options of `image extract` and `detach`.
#[derive(clap::Args)]
pub struct OneArgs {
    /// The image
    #[arg(value_name = "REF")]
    pub image: String,
    /// Digest of what is attached (ftvm image inspect), or its first digits
    #[arg(value_name = "DIGEST")]
    pub which: String,
}

/// Options of `image extract`.
#[derive(clap::Args)]
pub struct ExtractArgs {
    /// The snapshot's file, or the log's directory; must not exist
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    #[command(flatten)]
    pub one: OneArgs,
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> String + '_ {
    move |e| format!("{}: {}", path.display(), reason(&e))
}

/// Checks that what was started with these bytes has the image as its root.
fn belongs(start: &[u8], image: &Image, what: &Path) -> Result<(), String> {
    let digest = image.manifest_blob.digest;
    let (spec, _) = start::decode(start, false).ok_or_else(|| format!("{}: damaged", what.display()))?;
    match spec.rootfs.ends_with(format!("@{digest}").as_bytes()) {
        true => Ok(()),
        false => Err(format!(
            "{}: its root is {}, not the image {digest}",
            what.display(),
            String::from_utf8_lossy(&spec.rootfs)
        )),
    }
}

/// The first record of a log of this build; one of another build could not be read for where it belongs.
fn start_of(log: &Path) -> Result<Vec<u8>, String> {
    let mut reader = Reader::open(log)?;
    if reader.header.build != crate::door::record::build_id() {
        return Err(format!(
            "{}: written by another build of ftvm, which can tell where it belongs",
            log.display()
        ));
    }
    match reader.records().and_then(|r| r.into_iter().next()) {
        Some(Record::Start(start)) => Ok(start),
        _ => Err(format!("{}: its first record is damaged", log.display())),
    }
}

/// `image attach`: the artifact.
pub fn attach(store: &Store, image: &Image, args: &AttachArgs) -> Result<Artifact, String> {
    let title = args
        .what
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut notes = vec![(artifact::TITLE, title)];
    let (kind, layer) = match args.what.is_dir() {
        true => {
            belongs(&start_of(&args.what)?, image, &args.what)?;
            notes.push((artifact::BUILD, warm::build()));
            notes.push((artifact::VERSION, env!("CARGO_PKG_VERSION").to_string()));
            (artifact::LOG, pack(store, &args.what)?)
        }
        false => {
            let header = Snapshot::header_of(&HostFile::open(&args.what)?)
                .map_err(|e| format!("{}: {e}", args.what.display()))?;
            if header.parent.is_some() || header.external {
                return Err(format!(
                    "{}: a snapshot that needs another one, or a page store: ftvm snapshot squash makes it whole",
                    args.what.display()
                ));
            }
            if header.build != crate::door::record::build_id() {
                return Err(format!(
                    "{}: written by another build of ftvm ({}), which can tell where it belongs",
                    args.what.display(),
                    header.version
                ));
            }
            if header.lock.is_some() {
                notes.push((artifact::ENCRYPTED, "true".to_string()));
            }
            let words = args.passphrase_file.as_deref().map(passphrase).transpose()?;
            let opened = Opener::new(words).one(&args.what)?;
            let state = opened.manifest().extra(STATE).and_then(HostState::decode);
            let state = state.ok_or_else(|| format!("{}: damaged", args.what.display()))?;
            belongs(&state.start, image, &args.what)?;
            notes.push((artifact::BUILD, digits(&header.build)));
            notes.push((artifact::CPU, crate::cpu::features()));
            notes.push((artifact::VERSION, header.version));
            let mut blob = store.writer()?;
            let mut file = File::open(&args.what).map_err(at(&args.what))?;
            std::io::copy(&mut file, &mut blob).map_err(at(&args.what))?;
            (artifact::SNAPSHOT, store.finish(blob, artifact::SNAPSHOT)?)
        }
    };
    artifact::attach(store, &image.manifest_blob, kind, &layer, &notes)
}

/// Files of a log, by name; an error if there is something else.
fn files(dir: &Path) -> Result<BTreeMap<PathBuf, PathBuf>, String> {
    let mut out = BTreeMap::new();
    let mut next = vec![PathBuf::new()];
    while let Some(below) = next.pop() {
        let here = dir.join(&below);
        for item in std::fs::read_dir(&here).map_err(at(&here))? {
            let item = item.map_err(at(&here))?;
            let kind = item.file_type().map_err(at(&here))?;
            let name = below.join(item.file_name());
            match (kind.is_dir(), kind.is_file()) {
                (true, _) => next.push(name),
                (_, true) => {
                    out.insert(name, item.path());
                }
                _ => {
                    return Err(format!(
                        "{}: neither a file nor a directory",
                        item.path().display()
                    ));
                }
            }
        }
    }
    Ok(out)
}

fn pack(store: &Store, dir: &Path) -> Result<ftl_images::store::Blob, String> {
    let err = at(dir);
    let mut blob = store.writer()?;
    let mut zip = zstd::Encoder::new(&mut blob, LEVEL).map_err(&err)?;
    {
        let mut tar = tar::Builder::new(&mut zip);
        for (name, path) in files(dir)? {
            let file = File::open(&path).map_err(at(&path))?;
            let len = file.metadata().map_err(at(&path))?.len();
            let mut h = tar::Header::new_gnu();
            h.set_mode(0o600);
            h.set_size(len);
            h.set_mtime(0);
            tar.append_data(&mut h, name, file.take(len)).map_err(at(&path))?;
        }
        tar.finish().map_err(&err)?;
    }
    zip.finish().map_err(&err)?;
    store.finish(blob, artifact::LOG)
}

/// What is attached to an image, by the first digits of its digest.
pub fn find(store: &Store, image: &Image, text: &str) -> Result<Artifact, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let mut all = artifact::below(store, &image.manifest_blob.digest)?;
    all.retain(|a| hex.len() >= 6 && a.blob.digest.hex().starts_with(hex));
    match all.len() {
        1 => Ok(all.remove(0)),
        0 => Err(format!(
            "nothing that belongs to the image is called {text}; ftvm image inspect lists it"
        )),
        _ => Err(format!("{text} does not name one thing; write more digits")),
    }
}

/// `image extract`: the file, or the directory, appears when it is whole.
pub fn extract(store: &Store, image: &Image, args: &ExtractArgs) -> Result<(), String> {
    let one = find(store, image, &args.one.which)?;
    if args.output.symlink_metadata().is_ok() {
        return Err(format!("{}: is there already", args.output.display()));
    }
    store.check(&one.layer.digest)?;
    let mut blob = store.blob(&one.layer.digest)?;
    let to = std::path::absolute(&args.output).map_err(at(&args.output))?;
    match one.kind.as_str() {
        artifact::LOG => unpack(blob, &to),
        _ => {
            let mut file = Unpublished::create(&to)?;
            let mut buf = vec![0; 1 << 18];
            loop {
                match blob.read(&mut buf).map_err(at(&to))? {
                    0 => return file.publish(),
                    n => file.write(&buf[..n])?,
                }
            }
        }
    }
}

/// Unpacks a log that somebody may have made to do harm: plain files in plain directories, below `to` only.
fn unpack(blob: impl Read, to: &Path) -> Result<(), String> {
    let mut name = to.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".part-{}", std::process::id()));
    let part = to.with_file_name(name);
    let done = unpack_to(blob, &part).and_then(|()| std::fs::rename(&part, to).map_err(at(to)));
    if done.is_err() {
        let _ = std::fs::remove_dir_all(&part);
    }
    done
}

fn unpack_to(blob: impl Read, part: &Path) -> Result<(), String> {
    let err = at(part);
    let folder = |path: &Path| {
        std::fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(path)
    };
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(part)
        .map_err(&err)?;
    let mut tar = tar::Archive::new(zstd::Decoder::new(blob).map_err(&err)?);
    for entry in tar.entries().map_err(&err)? {
        let mut entry = entry.map_err(&err)?;
        let name = entry.path_bytes().into_owned();
        let parts = components(&name)?;
        if !entry.header().entry_type().is_file() || parts.is_empty() {
            return Err(format!(
                "{}: not a plain file of a log",
                String::from_utf8_lossy(&name)
            ));
        }
        let mut path = part.to_path_buf();
        for p in &parts {
            use std::os::unix::ffi::OsStrExt;
            path.push(std::ffi::OsStr::from_bytes(p));
        }
        folder(path.parent().unwrap_or(part)).map_err(at(&path))?;
        let new = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let mut file = new.map_err(at(&path))?;
        std::io::copy(&mut entry, &mut file).map_err(at(&path))?;
        file.flush().map_err(at(&path))?;
    }
    Ok(())
}

/// `image detach`.
pub fn detach(store: &Store, image: &Image, args: &OneArgs) -> Result<Digest, String> {
    let one = find(store, image, &args.which)?;
    store.detach(&one.blob.digest)?;
    let (freed, _) = store.collect(super::from_image::of_runs)?;
    say(&format!("{} KiB are free", freed / 1024));
    Ok(one.blob.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(name: &str, kind: tar::EntryType) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut h = tar::Header::new_gnu();
        h.set_size(4);
        h.set_entry_type(kind);
        // By hand: the library refuses such names.
        h.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        h.set_cksum();
        tar.append(&h, &b"text"[..]).expect("appended");
        zstd::encode_all(&*tar.into_inner().expect("a tar"), 1).expect("zipped")
    }

    #[test]
    fn a_log_that_leads_out_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("ftl-extract-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let to = dir.join("log");
        let file = tar::EntryType::Regular;
        for (name, kind) in [
            ("../out", file),
            ("/tmp/out", file),
            ("a/../../out", file),
            ("link", tar::EntryType::Symlink),
            ("dev", tar::EntryType::Char),
        ] {
            assert!(unpack(archive(name, kind).as_slice(), &to).is_err(), "{name}");
            assert_eq!(std::fs::read_dir(&dir).expect("there").count(), 0, "{name}");
        }
        unpack(archive("files/x", file).as_slice(), &to).expect("good");
        assert_eq!(std::fs::read(to.join("files/x")).expect("there"), b"text");
        assert!(unpack(&b"no archive"[..], &dir.join("other")).is_err());
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
