//! Signatures: minisign's, over one line with the digest of the image's manifest, kept as an OCI 1.1 artifact whose `subject` is
//! the image.
//!
//! The line is the digest and a newline: `printf 'sha256:...\n' > f; minisign -S -m f` makes the same kind of signature, and
//! minisign checks ours. A signature says that its owner meant this content; it says nothing about names and tags.

use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::store::{Blob, Store};
use crate::{Result, artifact};
use minisign::{PublicKeyBox, SecretKeyBox, SignatureBox};
use std::io::Cursor;
use std::path::Path;

/// Type of the artifact, and of its only layer.
pub const ARTIFACT: &str = "application/vnd.org.ftlinux.signature.minisign.v1";
/// Largest signature that is read, bytes.
const MAX_SIGNATURE: u64 = 16 << 10;

fn message(digest: &Digest) -> String {
    format!("{digest}\n")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {}", path.display(), crate::reason(&e)))
}

/// A new pair of keys in minisign's format: the secret one without a passphrase, for its file's mode to protect.
pub fn new_keys() -> Result<(String, String)> {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().map_err(|e| e.to_string())?;
    let secret = pair.sk.to_box(None).map_err(|e| e.to_string())?;
    let public = pair.pk.to_box().map_err(|e| e.to_string())?;
    Ok((secret.into_string(), public.into_string()))
}

/// Signs a manifest with the key in a file. `passphrase` is asked for if the key has one.
pub fn sign(
    store: &Store,
    blob: &Blob,
    key: &Path,
    passphrase: impl FnOnce() -> Result<String>,
) -> Result<Blob> {
    let wrong = |e: minisign::PError| format!("{}: {e}", key.display());
    let text = read(key)?;
    let plain = SecretKeyBox::from_string(&text)
        .map_err(wrong)?
        .into_unencrypted_secret_key();
    let secret = match plain {
        Ok(s) => s,
        Err(_) => SecretKeyBox::from_string(&text)
            .map_err(wrong)?
            .into_secret_key(Some(passphrase()?))
            .map_err(wrong)?,
    };
    let line = message(&blob.digest);
    let comment = format!("image {}", blob.digest);
    let signed = minisign::sign(
        None,
        &secret,
        Cursor::new(line),
        Some(&comment),
        Some("signature of an image"),
    )
    .map_err(wrong)?;
    attach(store, blob, signed.into_string().as_bytes())
}

/// Keeps a signature that was made elsewhere.
pub fn attach(store: &Store, blob: &Blob, signature: &[u8]) -> Result<Blob> {
    let layer = store.put(ARTIFACT, signature)?;
    Ok(artifact::attach(store, blob, ARTIFACT, &layer, &[])?.blob)
}

/// The signatures of an image, or of an artifact.
pub fn of(store: &Store, digest: &Digest) -> Result<Vec<Artifact>> {
    let mut all = artifact::of(store, digest)?;
    all.retain(|a| a.kind == ARTIFACT);
    Ok(all)
}

/// The signature in an artifact; an error if it is none of this manifest.
fn signature(store: &Store, artifact: &Artifact, digest: &Digest) -> Result<String> {
    if artifact.subject != *digest {
        return Err(format!("a signature of {}", artifact.subject));
    }
    String::from_utf8(store.read(&artifact.layer.digest, MAX_SIGNATURE)?)
        .map_err(|_| "a signature that is no text".to_string())
}

/// Checks that one of the image's signatures is by the key in a file. Returns the signature's trusted comment.
pub fn verify(store: &Store, digest: &Digest, key: &Path) -> Result<String> {
    let wrong = |e: minisign::PError| format!("{}: {e}", key.display());
    let text = read(key)?;
    // As minisign -P: the bare key is good enough.
    let public = match PublicKeyBox::from_string(&text).and_then(PublicKeyBox::into_public_key) {
        Ok(k) => k,
        Err(_) => minisign::PublicKey::from_base64(text.trim()).map_err(wrong)?,
    };
    let all = of(store, digest)?;
    if all.is_empty() {
        return Err(format!(
            "{digest} has no signature here; ftvm image sign makes one, ftvm image pull fetches those of a registry"
        ));
    }
    let mut whys = Vec::new();
    for artifact in &all {
        let checked = signature(store, artifact, digest).and_then(|text| {
            let signature = SignatureBox::from_string(&text).map_err(|e| e.to_string())?;
            // Prehashed only, as minisign makes them today.
            minisign::verify(
                &public,
                &signature,
                Cursor::new(message(digest)),
                true,
                false,
                false,
            )
            .map_err(|e| e.to_string())?;
            signature.trusted_comment().map_err(|e| e.to_string())
        });
        match checked {
            Ok(comment) => return Ok(comment),
            Err(why) => whys.push(why),
        }
    }
    whys.dedup();
    Err(format!(
        "{digest}: none of its {} signatures is by the key in {} ({})",
        all.len(),
        key.display(),
        whys.join("; ")
    ))
}
