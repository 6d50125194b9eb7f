//! The name of an image's root where it is not a directory of this host but an unpacked OCI image.
//!
//! Such a root is called `oci:NAME@sha256:DIGEST` (the manifest's), and a file in it by that and its path in the root.
//! Starts, snapshots and logs hold these names: the host where they are used finds its own directory for them, or says what to
//! pull. Everything else keeps its host path.

use ftl_images::digest::Digest;
use ftl_images::image::Image;
use ftl_images::reference::Reference;
use ftl_images::store::Store;
use ftl_images::unpack;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const SCHEME: &[u8] = b"oci:";
/// Digits behind `@sha256:`.
const HEX: usize = 64;

/// Roots that this process has looked up: name, directory on this host.
static KNOWN: Mutex<Vec<(Vec<u8>, PathBuf)>> = Mutex::new(Vec::new());

/// The name of a root.
pub fn name(reference: &str, manifest: &Digest) -> Vec<u8> {
    [
        SCHEME,
        reference.as_bytes(),
        b"@",
        manifest.to_string().as_bytes(),
    ]
    .concat()
}

/// Root and path in it; `None` for a host path.
fn split(named: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = named.strip_prefix(SCHEME)?;
    let at = rest.windows(8).position(|w| w == b"@sha256:")?;
    let end = SCHEME.len() + at + 8 + HEX;
    (named.len() >= end && matches!(named.get(end), None | Some(b'/'))).then(|| named.split_at(end))
}

/// True for what is in the root of an image: its contents follow from its name.
pub fn is_of_image(named: &[u8]) -> bool {
    split(named).is_some()
}

/// The image whose root this is: what it is called, and its manifest. `None`: a host path.
pub fn image_of(root: &[u8]) -> Option<(String, Digest)> {
    let (root, inside) = split(root)?;
    let text = std::str::from_utf8(&root[SCHEME.len()..]).ok()?;
    let (_, digest) = text.rsplit_once('@')?;
    inside
        .is_empty()
        .then(|| Some((text.to_string(), Digest::parse(digest).ok()?)))?
}

/// Whether a root can be used without unpacking anything: for whoever must not wait.
pub fn is_unpacked(named: &[u8]) -> Result<(), String> {
    let Some((root, _)) = split(named) else {
        return Ok(());
    };
    let (text, digest) = image_of(root).ok_or("not the name of a root")?;
    let missing = |why: String| format!("the root of {text} is not here: {why}");
    let store = Store::open().map_err(missing)?;
    let (_, blob) = store.find(&digest.to_string()).map_err(missing)?;
    let image = Image::open(&store, &blob).map_err(missing)?;
    match store.root_path(&image.chain()).is_dir() {
        true => directory(root).map(drop),
        false => Err(missing("it is not unpacked".to_string())),
    }
}

/// Where what is named is on this host: unpacked now if the image is here and its root is not.
pub fn on_host(named: &[u8]) -> Result<PathBuf, String> {
    let Some((root, inside)) = split(named) else {
        return Ok(PathBuf::from(OsStr::from_bytes(named)));
    };
    let dir = directory(root)?;
    Ok(match inside.strip_prefix(b"/") {
        Some(below) if !below.is_empty() => dir.join(OsStr::from_bytes(below)),
        _ => dir,
    })
}

/// Copies of other hosts' files that this process has open in their place: copy, path on the other host.
static COPIES: Mutex<Vec<(PathBuf, Vec<u8>)>> = Mutex::new(Vec::new());

/// From here on this file is called by another name.
pub fn stands_for(copy: PathBuf, original: Vec<u8>) {
    COPIES
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .push((copy, original));
}

fn known() -> std::sync::MutexGuard<'static, Vec<(Vec<u8>, PathBuf)>> {
    // One thread at a time pushes whole entries: what a panic leaves is whole.
    KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn directory(root: &[u8]) -> Result<PathBuf, String> {
    if let Some((_, dir)) = known().iter().find(|(name, _)| name == root) {
        return Ok(dir.clone());
    }
    let text = String::from_utf8_lossy(&root[SCHEME.len()..]).into_owned();
    let (_, digest) = text.rsplit_once('@').unwrap_or(("", &text));
    let digest = Digest::parse(digest)?;
    let store = Store::open()?;
    let (_, blob) = store.find(&digest.to_string()).map_err(|_| {
        // Not by its tag: what that names on this host stays.
        let pull = Reference::parse(&text).map_or_else(|_| text.clone(), |r| r.at(&digest));
        format!("the image {text}, whose root this is, is not on this host: ftvm image pull {pull}")
    })?;
    let image = Image::open(&store, &blob)?;
    let (dir, _) = unpack::root(&store, &image)?;
    // Held for the life of the process: `ftvm image rm` leaves the root in place.
    std::mem::forget(store.use_root(&image.chain())?);
    let dir =
        std::fs::canonicalize(&dir).map_err(|e| format!("{}: {}", dir.display(), crate::cli::reason(&e)))?;
    known().push((root.to_vec(), dir.clone()));
    Ok(dir)
}

/// A host path as it is kept: below a root of an image, by that root's name; of a copy, as what it stands for.
pub fn named(path: Vec<u8>) -> Vec<u8> {
    let copies = COPIES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, original)) = copies
        .iter()
        .find(|(copy, _)| copy.as_os_str().as_bytes() == path)
    {
        return original.clone();
    }
    drop(copies);
    for (name, dir) in known().iter() {
        if let Ok(below) = Path::new(OsStr::from_bytes(&path)).strip_prefix(dir) {
            return match below.as_os_str().as_bytes() {
                b"" => name.clone(),
                below => [name, b"/".as_slice(), below].concat(),
            };
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_a_root_and_a_path_in_it() {
        let root = name("h.example:5000/kv:1", &Digest::of(b""));
        let file = [root.as_slice(), b"/usr/lib/x.so"].concat();
        assert_eq!(split(&file), Some((root.as_slice(), b"/usr/lib/x.so".as_slice())));
        assert_eq!(split(&root), Some((root.as_slice(), b"".as_slice())));
        for host in [
            b"/usr/lib/x.so".as_slice(),
            b"oci:x",
            b"oci:x@sha256:12",
            &[root.as_slice(), b"f"].concat(),
        ] {
            assert_eq!(split(host), None);
            assert_eq!(on_host(host), Ok(PathBuf::from(OsStr::from_bytes(host))));
        }
        known().push((root.clone(), PathBuf::from("/data/ftvm/images/roots/r")));
        assert_eq!(named(b"/data/ftvm/images/roots/r/usr/lib/x.so".to_vec()), file);
        assert_eq!(
            on_host(&file),
            Ok(PathBuf::from("/data/ftvm/images/roots/r/usr/lib/x.so"))
        );
        assert_eq!(
            named(b"/data/ftvm/images/roots/rr/x".to_vec()),
            b"/data/ftvm/images/roots/rr/x".to_vec()
        );
    }
}
