//! `save` and `load`: an OCI layout as one tar file, as skopeo and podman call oci-archive.

use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::entries::Entries;
use crate::image::{Image, canonical};
use crate::reference::Reference;
use crate::store::{Blob, MAX_MANIFEST, REF_NAME, Store};
use crate::unpack::components;
use crate::{MEDIA_INDEX, MEDIA_MANIFEST, Result, artifact, reason};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

/// Annotation of an archive's entry: manifests of what belongs to it.
const REFERRERS: &str = "org.ftlinux.referrers";

/// Blobs that an image consists of, the manifest last, and what belongs to it.
pub fn parts(store: &Store, image: &Image) -> Result<Vec<Blob>> {
    let mut all: Vec<Blob> = image.layers.iter().map(|(b, ..)| b.clone()).collect();
    let config = serde_json::to_value(image.manifest.config()).map_err(|e| e.to_string())?;
    all.push(Blob::from_json(&config)?);
    all.push(image.manifest_blob.clone());
    for a in artifact::below(store, &image.manifest_blob.digest)? {
        all.extend(children(&store.read(&a.blob.digest, MAX_MANIFEST)?)?);
        all.push(a.blob);
    }
    Ok(all)
}

/// Descriptors in a manifest: configuration and layers.
pub fn children(manifest: &[u8]) -> Result<Vec<Blob>> {
    let v: Value = serde_json::from_slice(manifest).map_err(|e| format!("manifest: {e}"))?;
    let layers = v.get("layers").and_then(Value::as_array).into_iter().flatten();
    layers.chain(v.get("config")).map(Blob::from_json).collect()
}

/// Writes an image and what belongs to it to a file; the same image, the same bytes.
pub fn save(store: &Store, image: &Image, name: Option<&str>, out: impl Write) -> Result<()> {
    let io = |e: std::io::Error| reason(&e);
    let mut row = image.manifest_blob.json();
    // skopeo wants the tag, or the whole name, here.
    row["annotations"] = json!({REF_NAME: name.unwrap_or("latest")});
    // No entries of their own: skopeo and podman take an archive with two entries for two images.
    let attached: Vec<String> = artifact::below(store, &image.manifest_blob.digest)?
        .iter()
        .map(|a| a.blob.digest.to_string())
        .collect();
    if !attached.is_empty() {
        row["annotations"][REFERRERS] = attached.join(" ").into();
    }
    let index = json!({"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": [row]}).to_string();
    let mut tar = tar::Builder::new(out);
    let mut put = |name: &str, size: u64, src: &mut dyn Read| {
        let mut h = tar::Header::new_gnu();
        h.set_mode(0o644);
        h.set_size(size);
        h.set_mtime(0);
        tar.append_data(&mut h, name, src).map_err(io)
    };
    let layout: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";
    put("oci-layout", layout.len() as u64, &mut &*layout)?;
    put("index.json", index.len() as u64, &mut index.as_bytes())?;
    let all: BTreeMap<Digest, u64> = parts(store, image)?
        .into_iter()
        .map(|b| (b.digest, b.size))
        .collect();
    for (digest, size) in all {
        let file = store.blob(&digest)?;
        if file.metadata().map_err(io)?.len() != size {
            return Err(format!(
                "{digest}: the blob in the store is damaged; pull the image again"
            ));
        }
        put(
            &format!("blobs/sha256/{}", digest.hex()),
            size,
            &mut file.take(size),
        )?;
    }
    tar.into_inner().and_then(|mut out| out.flush()).map_err(io)
}

/// Reads an archive or the directory of a layout. Every blob is checked; names are given when all of an image is there.
pub fn load(store: &Store, path: &Path, as_name: Option<&Reference>) -> Result<Vec<(Reference, Blob)>> {
    let read = contents(store, path)?;
    let mut out = Vec::new();
    for (said, blob) in read.images {
        let name = match (as_name, said) {
            (Some(n), _) => n.clone(),
            (None, Some(s)) => {
                Reference::parse(&s).map_err(|e| crate::plain(&format!("{e}; name it with -t")))?
            }
            (None, None) => {
                return Err(format!(
                    "{}: its image has no name; name it with -t",
                    path.display()
                ));
            }
        };
        out.push((name, blob));
    }
    for (name, blob) in &out {
        store.tag(name, blob)?;
    }
    for a in read.attached {
        store.attach(&a.blob, &a.kind, &a.subject)?;
    }
    Ok(out)
}

/// What an archive holds, now in the store and without names: it stays while the caller has the store open.
pub struct Contents {
    /// Manifests for this machine, with the names that they have there; one at least.
    pub images: Vec<(Option<String>, Blob)>,
    /// What belongs to them.
    pub attached: Vec<Artifact>,
}

/// Reads an archive or the directory of a layout, and checks every blob.
pub fn contents(store: &Store, path: &Path) -> Result<Contents> {
    try_contents(store, path).map_err(|why| crate::plain(&why))
}

fn try_contents(store: &Store, path: &Path) -> Result<Contents> {
    let at = |e: std::io::Error| format!("{}: {}", path.display(), reason(&e));
    let index = if path.is_dir() {
        let index = std::fs::read(path.join("index.json")).map_err(at)?;
        let dir = path.join("blobs/sha256");
        for item in std::fs::read_dir(&dir).map_err(at)? {
            let item = item.map_err(at)?;
            let Some(digest) = item.file_name().to_str().and_then(Digest::from_hex) else {
                continue;
            };
            take(store, &digest, std::fs::File::open(item.path()).map_err(at)?)?;
        }
        index
    } else {
        let file = std::io::BufReader::new(std::fs::File::open(path).map_err(at)?);
        let wrong = |e: String| format!("{}: {e}", path.display());
        let mut entries = Entries::new(file);
        let mut index = None;
        while let Some(entry) = entries.next().map_err(wrong)? {
            let parts = components(&entry.path).map_err(wrong)?;
            match parts[..] {
                [b"index.json"] => {
                    let mut bytes = Vec::new();
                    entries
                        .contents(&entry)
                        .take(MAX_MANIFEST)
                        .read_to_end(&mut bytes)
                        .map_err(at)?;
                    index = Some(bytes);
                }
                [b"blobs", b"sha256", hex] if entry.header.entry_type().is_file() => {
                    if let Some(d) = std::str::from_utf8(hex).ok().and_then(Digest::from_hex) {
                        take(store, &d, entries.contents(&entry))?;
                    }
                }
                _ => {}
            }
        }
        index.ok_or_else(|| {
            format!(
                "{}: no OCI archive (no index.json); docker's own format is read by skopeo copy",
                path.display()
            )
        })?
    };
    let index: Value =
        serde_json::from_slice(&index).map_err(|e| format!("{}: index.json: {e}", path.display()))?;
    let rows = index
        .get("manifests")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut out = Vec::new();
    let mut attached = Vec::new();
    for row in &rows {
        let mut blob = Blob::from_json(row)?;
        blob.media = canonical(&blob.media).to_string();
        let note = |k: &str| {
            row.pointer("/annotations")
                .and_then(|a| a.get(k))
                .and_then(Value::as_str)
        };
        for digest in note(REFERRERS).unwrap_or_default().split_whitespace() {
            let digest = Digest::parse(digest)?;
            let bytes = store.read(&digest, MAX_MANIFEST)?;
            let made = Blob {
                media: MEDIA_MANIFEST.to_string(),
                digest,
                size: bytes.len() as u64,
            };
            let one = Artifact::parse(made, &bytes)?;
            if !store.has(&one.layer) {
                return Err(format!("{}: {} is not in it", path.display(), one.layer.digest));
            }
            attached.push(one);
        }
        let image = Image::open(store, &blob)?;
        for (layer, ..) in &image.layers {
            if !store.has(layer) {
                return Err(format!("{}: layer {} is not in it", path.display(), layer.digest));
            }
        }
        out.push((note(REF_NAME).map(str::to_string), image.manifest_blob));
    }
    if out.is_empty() {
        return Err(format!("{}: no image is in it", path.display()));
    }
    Ok(Contents {
        images: out,
        attached,
    })
}

fn take(store: &Store, digest: &Digest, mut src: impl Read) -> Result<()> {
    let mut w = store.writer()?;
    std::io::copy(&mut src, &mut w).map_err(|e| format!("{digest}: {}", reason(&e)))?;
    store.expect(w, digest)
}
