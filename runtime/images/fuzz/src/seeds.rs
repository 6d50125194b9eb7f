//! Inputs that are right, to begin from.

use ftl_images::archive;
use ftl_images::config::ANNOTATION;
use ftl_images::digest::Digest;
use ftl_images::image::Image;
use ftl_images::reference::Reference;
use ftl_images::store::Store;
use ftl_images::{MEDIA_CONFIG, MEDIA_MANIFEST};

/// A small layer with an entry of each kind.
pub fn tar() -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    let mut entry = |kind: tar::EntryType, name: &str, link: &str, body: &str| {
        let mut h = tar::Header::new_gnu();
        h.set_entry_type(kind);
        h.set_mode(0o755);
        h.set_size(body.len() as u64);
        if !link.is_empty() {
            h.set_link_name(link).expect("a name");
        }
        out.append_data(&mut h, name, body.as_bytes()).expect("in memory");
    };
    use tar::EntryType as E;
    entry(E::Directory, "a/", "", "");
    entry(E::Regular, "a/file", "", "some text");
    entry(E::Link, "a/hard", "a/file", "");
    entry(E::Symlink, "a/soft", "../outside", "");
    entry(E::Fifo, "a/fifo", "", "");
    entry(E::Regular, "a/.wh.gone", "", "");
    entry(E::Regular, "b/.wh..wh..opq", "", "");
    out.into_inner().expect("in memory")
}

fn config(diff: &Digest) -> String {
    format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Entrypoint":["/a/file"],"User":"1:2"}},"rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#
    )
}

fn manifest(config: &str, config_size: &str, layer: &Digest, size: usize) -> String {
    let app = r#"{\"version\":1,\"command\":[\"/a/file\"],\"limits\":{\"pids\":3}}"#;
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MEDIA_MANIFEST}","config":{{"mediaType":"{MEDIA_CONFIG}","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":{size}}}],"annotations":{{"{ANNOTATION}":"{app}"}}}}"#
    )
}

/// For [`crate::check::image`].
pub fn image() -> Vec<u8> {
    let layer = tar();
    let diff = Digest::of(&layer);
    let mut out = config(&diff).into_bytes();
    out.push(0);
    out.extend(manifest("DIGEST", "SIZE", &diff, layer.len()).bytes());
    out
}

/// For [`crate::check::archive`].
pub fn file() -> Vec<u8> {
    let dir = std::env::temp_dir().join(format!("ftl-images-seed-{}", std::process::id()));
    let mut out = Vec::new();
    {
        let store = Store::open_at(&dir).expect("a new store");
        let layer = store
            .put("application/vnd.oci.image.layer.v1.tar", &tar())
            .expect("stored");
        let config = store
            .put(MEDIA_CONFIG, config(&layer.digest).as_bytes())
            .expect("stored");
        let text = manifest(
            &config.digest.to_string(),
            &config.size.to_string(),
            &layer.digest,
            layer.size as usize,
        );
        let blob = store.put(MEDIA_MANIFEST, text.as_bytes()).expect("stored");
        let name = Reference::parse("seed:1").expect("a name").name();
        let image = Image::open(&store, &blob).expect("whole");
        archive::save(&store, &image, Some(&name), &mut out).expect("saved");
    }
    std::fs::remove_dir_all(&dir).expect("removed");
    out
}

/// For [`crate::check::config`].
pub const CONFIG: &str = r#"version = 1
command = ["redis-server", "--port", "6379"]
environment = { LANG = "C.UTF-8" }
workdir = "/data"
expose = ["6379"]
warm-until = "tcp :6379"
limits = { memory = "512m", pids = 100 }
[network]
mode = "own"
ip = ["192.0.2.50/24"]
[[volumes]]
path = "/srv"
policy = "read-only"
host = "/srv/www"
[health]
command = ["x"]
[hooks.after-restore]
command = ["reseed"]
timeout = "5s"
[[secrets]]
name = "db"
mode = "0400"
[protection]
unprotected = "run"
"#;
