//! Properties of what reads an image, for any bytes. Each function panics if one does not hold.

use ftl_images::archive;
use ftl_images::config::App;
use ftl_images::digest::Digest;
use ftl_images::image::{Compression, Image};
use ftl_images::store::Store;
use ftl_images::tree::remove_tree;
use ftl_images::unpack::Tree;
use ftl_images::{MEDIA_CONFIG, MEDIA_INDEX, MEDIA_MANIFEST};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of our own with a root in it, and what is not to be touched beside it; removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("ftl-images-{}-{n}", std::process::id()));
        std::fs::create_dir_all(dir.join("root")).expect("a new directory");
        std::fs::write(dir.join("outside"), "untouched").expect("written");
        Place(dir)
    }

    fn store(&self) -> Store {
        Store::open_at(&self.0.join("root/store")).expect("a new store")
    }

    /// Nothing beside the root was made or changed.
    fn check(&self) {
        let all = std::fs::read_dir(&self.0).expect("listed").flatten();
        let names: BTreeSet<_> = all.map(|e| e.file_name()).collect();
        assert_eq!(names, BTreeSet::from(["outside".into(), "root".into()]));
        let outside = std::fs::read_to_string(self.0.join("outside")).expect("it is there");
        assert_eq!(outside, "untouched");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whatever was unpacked can be removed.
        remove_tree(&self.0).expect("removed");
    }
}

/// What a user is told is one line, and does nothing to a terminal.
fn told(why: &str) {
    assert!(!why.is_empty() && !why.contains(char::is_control), "{why:?}");
}

/// A layer: its compression by the first byte. It is unpacked twice, as two layers of one root.
pub fn layer(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else {
        return;
    };
    let compression = [Compression::None, Compression::Gzip, Compression::Zstd][usize::from(first % 3)];
    let place = Place::new();
    let mut tree = Tree::new(&place.0.join("root")).expect("opened");
    for _ in 0..2 {
        match tree.layer(bytes, bytes.len() as u64, compression, &Digest::of(bytes)) {
            Ok(()) => {}
            Err(why) => {
                told(&why);
                break;
            }
        }
    }
    if let Err(why) = tree.finish() {
        told(&why);
    }
    place.check();
}

/// A configuration and a manifest behind it, with a NUL between them; `DIGEST` and `SIZE` in the manifest stand for those of the
/// configuration. A second NUL at the end: an index.
pub fn image(data: &[u8]) {
    let mut parts = data.splitn(3, |b| *b == 0);
    let (Some(config), Some(manifest)) = (parts.next(), parts.next()) else {
        return;
    };
    let media = match parts.next() {
        Some(_) => MEDIA_INDEX,
        None => MEDIA_MANIFEST,
    };
    let place = Place::new();
    {
        let store = place.store();
        let config = store.put(MEDIA_CONFIG, config).expect("stored");
        let text = String::from_utf8_lossy(manifest)
            .replace("DIGEST", &config.digest.to_string())
            .replace("SIZE", &config.size.to_string());
        let blob = store.put(media, text.as_bytes()).expect("stored");
        match Image::open(&store, &blob) {
            Ok(image) => {
                assert!(image.layers.len() <= 500);
                image.chain();
                if let Some(app) = &image.app {
                    assert_eq!(App::from_json(&app.to_json()).as_ref(), Ok(app));
                }
                // Its layers are not here.
                if !image.layers.is_empty() {
                    told(&ftl_images::unpack::root(&store, &image).expect_err("no layers are here"));
                }
            }
            Err(why) => told(&why),
        }
    }
    place.check();
}

/// A file for `ftvm image load`. What is refused has no name.
pub fn archive(data: &[u8]) {
    let place = Place::new();
    {
        let store = place.store();
        let file = place.0.join("root/file");
        std::fs::write(&file, data).expect("written");
        let file = PathBuf::from(&file);
        match archive::load(&store, &file, None) {
            Ok(all) => {
                assert!(!all.is_empty());
                for (name, blob) in all {
                    let (_, found) = store.find(&name.name()).expect("it has its name");
                    assert_eq!(found.digest, blob.digest);
                    Image::open(&store, &found).expect("it was whole");
                }
            }
            Err(why) => {
                told(&why);
                assert!(
                    store.list().expect("listed").is_empty(),
                    "a name of what was refused"
                );
            }
        }
    }
    place.check();
}

/// `ftvm.toml`, and the same in an image's annotation.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match App::parse(text) {
        Ok(app) => assert_eq!(App::from_json(&app.to_json()), Ok(app)),
        Err(wrong) => {
            assert!(wrong.line <= text.lines().count() + 1);
            told(&wrong.tell("ftvm.toml"));
        }
    }
    match App::from_json(text) {
        Ok(app) => assert_eq!(App::from_json(&app.to_json()), Ok(app)),
        Err(why) => told(&why),
    }
}
