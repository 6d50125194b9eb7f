//! One image: its manifest and configuration, checked.

use crate::config::{ANNOTATION, App};
use crate::digest::Digest;
use crate::store::{Blob, MAX_CONFIG, MAX_MANIFEST, Store};
use crate::{MEDIA_CONFIG, MEDIA_INDEX, MEDIA_MANIFEST, Result};
use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};

/// Most layers of an image; overlayfs has the same order of limit.
const MAX_LAYERS: usize = 500;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// An image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its manifest.
    pub manifest_blob: Blob,
    /// Its manifest's contents.
    pub manifest: ImageManifest,
    /// Its configuration.
    pub config: ImageConfiguration,
    /// Layers, the lowest first: blob, compression, digest of the unpacked tar.
    pub layers: Vec<(Blob, Compression, Digest)>,
    /// How it is run, if it was built by ftvm.
    pub app: Option<App>,
}

/// Compression of a layer by its media type; docker's names are those of OCI's predecessor.
pub fn compression(media: &str) -> Result<Compression> {
    Ok(match media {
        "application/vnd.oci.image.layer.v1.tar" => Compression::None,
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Compression::Gzip,
        "application/vnd.oci.image.layer.v1.tar+zstd" => Compression::Zstd,
        other => {
            return Err(format!(
                "a layer of the media type {other:?}: tar, tar+gzip and tar+zstd are known"
            ));
        }
    })
}

/// The manifest for this machine that an index names.
pub fn choose(index: &ImageIndex) -> Result<Blob> {
    let fits = |d: &&oci_spec::image::Descriptor| {
        d.platform()
            .as_ref()
            .is_some_and(|p| p.os().to_string() == "linux" && p.architecture().to_string() == "amd64")
    };
    let all = index.manifests();
    let one = all
        .iter()
        .find(fits)
        .or_else(|| all.first().filter(|d| all.len() == 1 && d.platform().is_none()));
    let d = one.ok_or("the image has no variant for linux/amd64")?;
    let blob = descriptor(d)?;
    Ok(Blob {
        media: canonical(&blob.media).to_string(),
        ..blob
    })
}

/// Docker's names for the same documents.
pub fn canonical(media: &str) -> &str {
    match media {
        "application/vnd.docker.distribution.manifest.v2+json" => MEDIA_MANIFEST,
        "application/vnd.docker.distribution.manifest.list.v2+json" => MEDIA_INDEX,
        "application/vnd.docker.container.image.v1+json" => MEDIA_CONFIG,
        other => other,
    }
}

impl Image {
    /// Reads and checks what is in the store; an index leads to its variant for this machine.
    pub fn open(store: &Store, blob: &Blob) -> Result<Image> {
        Image::open_by(&mut |digest, limit| store.read(digest, limit), blob).map_err(|why| crate::plain(&why))
    }

    /// The same, by what reads a small blob.
    pub(crate) fn open_by(
        read: &mut dyn FnMut(&Digest, u64) -> Result<Vec<u8>>,
        blob: &Blob,
    ) -> Result<Image> {
        let bytes = read(&blob.digest, MAX_MANIFEST)?;
        match canonical(&blob.media) {
            MEDIA_INDEX => {
                let index: ImageIndex =
                    serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", blob.digest))?;
                let inner = choose(&index)?;
                if canonical(&inner.media) != MEDIA_MANIFEST {
                    return Err(format!("{}: an index in an index", blob.digest));
                }
                Image::open_by(read, &inner)
            }
            MEDIA_MANIFEST => {
                let manifest = manifest(&bytes).map_err(|e| format!("{}: {e}", blob.digest))?;
                let config_blob = descriptor(manifest.config())?;
                let config = read(&config_blob.digest, MAX_CONFIG)?;
                Image::check(blob.clone(), manifest, &config).map_err(|e| format!("{}: {e}", blob.digest))
            }
            other => Err(format!("{}: media type {other:?} is not an image", blob.digest)),
        }
    }

    fn check(manifest_blob: Blob, manifest: ImageManifest, config: &[u8]) -> Result<Image> {
        let config: ImageConfiguration =
            serde_json::from_slice(config).map_err(|e| format!("configuration: {e}"))?;
        let (os, arch) = (config.os().to_string(), config.architecture().to_string());
        if os != "linux" || arch != "amd64" {
            return Err(format!("made for {os}/{arch}, not for linux/amd64"));
        }
        let diffs = config.rootfs().diff_ids();
        if diffs.len() != manifest.layers().len() || diffs.len() > MAX_LAYERS {
            return Err(format!(
                "{} layers and {} digests of their contents (most {MAX_LAYERS})",
                manifest.layers().len(),
                diffs.len()
            ));
        }
        let mut layers = Vec::new();
        for (d, diff) in manifest.layers().iter().zip(diffs) {
            let blob = descriptor(d)?;
            layers.push((blob.clone(), compression(&blob.media)?, Digest::parse(diff)?));
        }
        let text = manifest.annotations().as_ref().and_then(|a| a.get(ANNOTATION));
        let app = text
            .map(|t| App::from_json(t).map_err(|e| format!("annotation {ANNOTATION}: {e}")))
            .transpose()?;
        Ok(Image {
            manifest_blob,
            manifest,
            config,
            layers,
            app,
        })
    }

    /// Identity of the unpacked root: OCI's ChainID of all layers.
    pub fn chain(&self) -> Digest {
        chain_of(self.layers.iter().map(|(_, _, diff)| diff))
    }
}

/// ChainID of layers, the lowest first. Without layers: of nothing.
pub fn chain_of<'a>(diffs: impl Iterator<Item = &'a Digest>) -> Digest {
    let mut chain: Option<Digest> = None;
    for diff in diffs {
        chain = Some(match chain {
            None => *diff,
            Some(c) => Digest::of(format!("{c} {diff}").as_bytes()),
        });
    }
    chain.unwrap_or_else(|| Digest::of(b""))
}

/// Reads a manifest of an image.
pub fn manifest(bytes: &[u8]) -> Result<ImageManifest> {
    let m: ImageManifest = serde_json::from_slice(bytes).map_err(|e| format!("manifest: {e}"))?;
    match m.config().media_type().to_string().as_str() {
        media if canonical(media) == MEDIA_CONFIG => Ok(m),
        other => Err(format!(
            "its configuration is {other:?}: not an image that can be run"
        )),
    }
}

fn descriptor(d: &oci_spec::image::Descriptor) -> Result<Blob> {
    Ok(Blob {
        media: d.media_type().to_string(),
        digest: Digest::parse(d.digest().as_ref())?,
        size: d.size(),
    })
}
