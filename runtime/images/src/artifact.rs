//! What belongs to an image and is no part of it: OCI 1.1 artifacts whose `subject` is the image.
//!
//! Signatures ([`crate::sign`]), snapshots of the running application, and logs. A signature may also belong to a snapshot:
//! a snapshot holds what the image's own digest does not cover.
//!
//! In the store they are entries of the index with `subject`; in a registry the referrers API lists them, or the index under
//! the tag that stands for it.

use crate::digest::Digest;
use crate::store::{Blob, MAX_MANIFEST, Store};
use crate::{MEDIA_MANIFEST, Result, sign};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Type of a snapshot, and of its only layer: the file that `ftvm checkpoint` writes.
pub const SNAPSHOT: &str = "application/vnd.org.ftlinux.snapshot.v1";
/// Type of a log, and of its only layer: the log's directory as tar+zstd.
pub const LOG: &str = "application/vnd.org.ftlinux.log.v1.tar+zstd";
/// Types that are kept, sent and fetched. What others attach to an image stays in its registry.
pub const KNOWN: &[&str] = &[sign::ARTIFACT, SNAPSHOT, LOG];

/// What a snapshot is for: [`USE_WARM`], or nothing in particular.
pub const USE: &str = "org.ftlinux.snapshot.use";
/// `run --image` starts from it.
pub const USE_WARM: &str = "warm";
/// Build of ftvm that a snapshot or log needs, in hex.
pub const BUILD: &str = "org.ftlinux.build";
/// Version of that build, for people.
pub const VERSION: &str = "org.ftlinux.version";
/// Features that the CPU had, as the runtime writes them.
pub const CPU: &str = "org.ftlinux.snapshot.cpu";
/// What was waited for before a warm snapshot was taken.
pub const UNTIL: &str = "org.ftlinux.snapshot.until";
/// Present, and "true": it needs a passphrase.
pub const ENCRYPTED: &str = "org.ftlinux.snapshot.encrypted";
/// Name of the file, as other tools that list artifacts show it.
pub const TITLE: &str = "org.opencontainers.image.title";

/// What an artifact without configuration has.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// An artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its manifest.
    pub blob: Blob,
    /// Its type: one of [`KNOWN`].
    pub kind: String,
    /// Manifest that it belongs to.
    pub subject: Digest,
    /// Its contents.
    pub layer: Blob,
    /// What is said of it.
    pub notes: BTreeMap<String, String>,
}

impl Artifact {
    /// Reads a manifest; an error if it is no artifact that is known here.
    pub fn parse(blob: Blob, bytes: &[u8]) -> Result<Artifact> {
        let digest = blob.digest;
        let wrong = |why: &str| format!("{digest}: {why}");
        let v: Value = serde_json::from_slice(bytes).map_err(|e| wrong(&e.to_string()))?;
        let kind = v.get("artifactType").and_then(Value::as_str).unwrap_or_default();
        if !KNOWN.contains(&kind) {
            return Err(wrong(&format!(
                "an artifact of the type {kind:?}, which is not known here"
            )));
        }
        let subject = v
            .get("subject")
            .ok_or_else(|| wrong("an artifact without a subject"))?;
        let layers = v.get("layers").and_then(Value::as_array);
        let layer = match layers.map(Vec::as_slice) {
            Some([one]) => Blob::from_json(one)?,
            _ => return Err(wrong("an artifact that has not one layer")),
        };
        if layer.media != kind {
            return Err(wrong(&format!("an artifact whose layer is {:?}", layer.media)));
        }
        let mut notes = BTreeMap::new();
        for (k, text) in v
            .get("annotations")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if let Some(text) = text.as_str() {
                notes.insert(k.clone(), text.to_string());
            }
        }
        Ok(Artifact {
            kind: kind.to_string(),
            subject: Blob::from_json(subject)?.digest,
            layer,
            notes,
            blob,
        })
    }

    /// Reads one of the store's.
    pub fn open(store: &Store, blob: &Blob) -> Result<Artifact> {
        Artifact::parse(blob.clone(), &store.read(&blob.digest, MAX_MANIFEST)?)
    }

    /// What is said under this key.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }

    /// A snapshot for `run --image` to start from.
    pub fn is_warm(&self) -> bool {
        self.kind == SNAPSHOT && self.note(USE) == Some(USE_WARM)
    }

    /// As a registry lists it.
    pub fn row(&self) -> Value {
        let mut row = self.blob.json();
        row["artifactType"] = self.kind.as_str().into();
        if !self.notes.is_empty() {
            row["annotations"] = json!(self.notes);
        }
        row
    }
}

/// Makes an artifact of a layer that is in the store, and adds it to what belongs to `subject`.
pub fn attach(
    store: &Store,
    subject: &Blob,
    kind: &str,
    layer: &Blob,
    notes: &[(&str, String)],
) -> Result<Artifact> {
    let config = store.put(EMPTY, b"{}")?;
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MEDIA_MANIFEST,
        "artifactType": kind,
        "config": config.json(),
        "layers": [layer.json()],
        "subject": subject.json(),
    });
    if !notes.is_empty() {
        let notes: Map<String, Value> = notes
            .iter()
            .map(|(k, v)| (k.to_string(), v.as_str().into()))
            .collect();
        manifest["annotations"] = Value::Object(notes);
    }
    let text = manifest.to_string();
    let made = store.put(MEDIA_MANIFEST, text.as_bytes())?;
    store.attach(&made, kind, &subject.digest)?;
    Artifact::parse(made, text.as_bytes())
}

/// What belongs to a manifest. An entry that cannot be read is left out: it is of no use to anybody.
pub fn of(store: &Store, subject: &Digest) -> Result<Vec<Artifact>> {
    let all = store.list()?;
    let ours = all.iter().filter(|e| e.subject == Some(*subject));
    Ok(ours.filter_map(|e| Artifact::open(store, &e.blob).ok()).collect())
}

/// What belongs to a manifest, and what belongs to that: each behind what it belongs to.
pub fn below(store: &Store, subject: &Digest) -> Result<Vec<Artifact>> {
    let mut out: Vec<Artifact> = Vec::new();
    let mut seen = BTreeSet::from([*subject]);
    let mut next = vec![*subject];
    while let Some(digest) = next.pop() {
        for a in of(store, &digest)? {
            if seen.insert(a.blob.digest) {
                next.push(a.blob.digest);
                out.push(a);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(name: &str) -> (Store, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(format!("ftl-artifact-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        (Store::open_at(&dir).expect("a store"), dir)
    }

    #[test]
    fn what_is_attached_is_found_below_its_subject_and_goes_with_it() {
        let (store, dir) = store("below");
        let image = store.put(MEDIA_MANIFEST, b"{\"layers\":[]}").expect("put");
        let name = crate::reference::Reference::parse("a:1").expect("a name");
        store.tag(&name, &image).expect("tag");
        let layer = store.put(SNAPSHOT, b"pages").expect("put");
        let warm = attach(
            &store,
            &image,
            SNAPSHOT,
            &layer,
            &[(USE, USE_WARM.into()), (BUILD, "00".into())],
        )
        .expect("attach");
        assert!(warm.is_warm());
        let text = store.put(sign::ARTIFACT, b"signature").expect("put");
        let signature = attach(&store, &warm.blob, sign::ARTIFACT, &text, &[]).expect("attach");
        let all = below(&store, &image.digest).expect("below");
        assert_eq!(all, [warm.clone(), signature.clone()]);
        assert_eq!(
            of(&store, &image.digest).expect("of"),
            std::slice::from_ref(&warm)
        );
        store.collect(|| Ok(BTreeSet::new())).expect("collect");
        assert!(store.has(&layer) && store.has(&text));
        store.detach(&warm.blob.digest).expect("detach");
        store.collect(|| Ok(BTreeSet::new())).expect("collect");
        assert!(!store.has(&layer) && !store.has(&text) && store.has(&image));
        assert!(below(&store, &image.digest).expect("below").is_empty());
        std::fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn what_is_no_artifact_is_refused() {
        let blob = Blob {
            media: MEDIA_MANIFEST.into(),
            digest: Digest::of(b""),
            size: 0,
        };
        let d = Digest::of(b"x").to_string();
        let one = |kind: &str, layers: &str| {
            format!(
                "{{\"artifactType\":\"{kind}\",\"layers\":{layers},\"subject\":{{\"digest\":\"{d}\",\"size\":1}}}}"
            )
        };
        let layer = |media: &str| format!("{{\"mediaType\":\"{media}\",\"digest\":\"{d}\",\"size\":5}}");
        let good = one(LOG, &format!("[{}]", layer(LOG)));
        assert!(Artifact::parse(blob.clone(), good.as_bytes()).is_ok());
        for bad in [
            "{}".to_string(),
            "[".to_string(),
            one("text/plain", &format!("[{}]", layer("text/plain"))),
            one(LOG, "[]"),
            one(LOG, &format!("[{}]", layer(SNAPSHOT))),
            one(LOG, &format!("[{},{}]", layer(LOG), layer(LOG))),
            good.replace("subject", "object"),
        ] {
            assert!(Artifact::parse(blob.clone(), bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
