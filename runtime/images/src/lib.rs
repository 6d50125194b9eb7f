//! Application images: an application with its root and its policy as one artifact, in the format of OCI.
//!
//! * [`config`] reads `ftvm.toml`.
//! * [`store`]: the images of a user, an OCI layout. [`image`]: one of them, checked. [`mod@reference`], [`digest`]: their names.
//! * [`unpack`]: layers become a root directory; [`entries`] reads them, [`tree`] removes what they made. [`pack`]: a tree becomes
//!   a layer. [`elf`]: the libraries of a program.
//! * [`build`]: a new image. [`registry`]: push and pull. [`archive`]: save and load.
//! * [`artifact`]: what belongs to an image. [`sign`]: signatures among it.
//!
//! Only command lines and supervisors use it, before a guest runs or beside it: it allocates, hashes and talks to registries.
#![forbid(unsafe_code)]

pub mod archive;
pub mod artifact;
mod auth;
pub mod build;
pub mod config;
pub mod cpus;
pub mod digest;
pub mod elf;
pub mod entries;
pub mod image;
pub mod pack;
pub mod reference;
pub mod registry;
pub mod sign;
pub mod store;
pub mod tree;
pub mod unpack;

/// One line for the user.
pub type Result<T> = std::result::Result<T, String>;

/// Media type of a manifest.
pub const MEDIA_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an index.
pub const MEDIA_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a configuration.
pub const MEDIA_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Annotation of an index entry: the manifest that it belongs to. A layout has no referrers API.
pub const SUBJECT: &str = "org.ftlinux.subject";

/// A line about what an image holds: its author's control characters are shown, and do nothing to the user's terminal.
pub fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// What an I/O error says, without "(os error 2)".
pub fn reason(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}
