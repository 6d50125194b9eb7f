//! What a sweep keeps, what it removes, and when it must not.

use super::*;
use crate::tree::open_dir;
use rustix::fs::{CWD, Mode, OFlags};
use std::os::unix::fs::symlink;

/// A store in a directory of its own, removed at the end.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new() -> Place {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("ftl-store-{}-{n}", std::process::id()));
        std::fs::create_dir(&dir).expect("a new directory");
        Place(dir)
    }
    pub(crate) fn store(&self) -> Store {
        Store::open_at(&self.0.join("store")).expect("a store")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = remove_tree(&self.0);
    }
}

pub(crate) fn name(text: &str) -> Reference {
    Reference::parse(text).expect("a name")
}

/// An image of one layer: its manifest, its configuration, its layer. `docker`: by docker's media types.
pub(crate) fn image(store: &Store, text: &str, docker: bool) -> [Blob; 3] {
    let put = |media: &str, v: Value| store.put(media, v.to_string().as_bytes()).expect("put");
    let media = |oci: &'static str, other: &'static str| if docker { other } else { oci };
    let layer = store
        .put("application/vnd.oci.image.layer.v1.tar", text.as_bytes())
        .expect("put");
    let config = put(
        media(
            crate::MEDIA_CONFIG,
            "application/vnd.docker.container.image.v1+json",
        ),
        json!({"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer.digest.to_string()]}}),
    );
    let kind = media(
        MEDIA_MANIFEST,
        "application/vnd.docker.distribution.manifest.v2+json",
    );
    let manifest = put(
        kind,
        json!({"schemaVersion": 2, "mediaType": kind, "config": config.json(), "layers": [layer.json()]}),
    );
    [manifest, config, layer]
}

#[test]
fn an_image_by_dockers_names_keeps_its_blobs_when_another_is_removed() {
    let p = Place::new();
    let store = p.store();
    let parts = image(&store, "layer", true);
    let list = json!({"schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [{"mediaType": parts[0].media, "digest": parts[0].digest.to_string(), "size": parts[0].size,
            "platform": {"os": "linux", "architecture": "amd64"}}]});
    // A layout whose only entry is the list, as skopeo copy --all leaves one.
    let layout = p.0.join("layout");
    std::fs::create_dir_all(layout.join("blobs/sha256")).expect("made");
    let bytes = list.to_string();
    let list_digest = Digest::of(bytes.as_bytes());
    std::fs::write(layout.join("blobs/sha256").join(list_digest.hex()), &bytes).expect("written");
    for b in &parts {
        std::fs::rename(
            store.blob_path(&b.digest),
            layout.join("blobs/sha256").join(b.digest.hex()),
        )
        .expect("moved");
    }
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": list["mediaType"],
        "digest": list_digest.to_string(), "size": bytes.len()}]});
    std::fs::write(layout.join("index.json"), index.to_string()).expect("written");
    let loaded = crate::archive::load(&store, &layout, Some(&name("h.example/docker:1"))).expect("loaded");
    assert_eq!(loaded[0].1.digest, parts[0].digest);
    assert_eq!(loaded[0].1.media, MEDIA_MANIFEST);

    let [other, ..] = image(&store, "another", false);
    store.tag(&name("h.example/other:1"), &other).expect("tagged");
    store.untag("h.example/other:1").expect("untagged");
    store.collect(none).expect("collected");
    assert!(parts.iter().all(|b| store.has(b)) && !store.has(&other));

    // The index of an older version has docker's name.
    store.tag(&name("h.example/docker:1"), &parts[0]).expect("tagged");
    store.collect(none).expect("collected");
    assert!(parts.iter().all(|b| store.has(b)));
}

#[test]
fn a_disk_that_does_not_answer_ends_a_sweep_before_it_removes_anything() {
    for broken in [0, 1] {
        let p = Place::new();
        let store = p.store();
        let parts = image(&store, "layer", false);
        store.tag(&name("h.example/x:1"), &parts[0]).expect("tagged");
        let root = store.root_path(&Image::open(&store, &parts[0]).expect("an image").chain());
        std::fs::create_dir(&root).expect("made");
        // A link to itself cannot be opened, and is no missing file: what EIO and EMFILE would be.
        let path = store.blob_path(&parts[broken].digest);
        std::fs::rename(&path, p.0.join("aside")).expect("moved");
        symlink(&path, &path).expect("linked");
        assert!(store.collect(none).is_err());
        std::fs::rename(p.0.join("aside"), &path).expect("moved");
        assert!(parts.iter().all(|b| store.has(b)) && root.is_dir());
        store.collect(none).expect("collected");
        assert!(parts.iter().all(|b| store.has(b)) && root.is_dir());
        // A manifest that is not there keeps nothing.
        std::fs::remove_file(store.blob_path(&parts[0].digest)).expect("removed");
        store.collect(none).expect("collected");
        assert!(!store.has(&parts[2]) && !root.exists());
    }
}

/// A chain of directories that is deeper than a path can tell, and than descriptors reach.
fn deep(dir: &Path) {
    std::fs::create_dir(dir).expect("made");
    let mut at = open_dir(CWD, dir, OFlags::empty()).expect("opened");
    for _ in 0..3000 {
        rustix::fs::mkdirat(&at, "deep", Mode::RWXU).expect("made");
        at = open_dir(&at, "deep", OFlags::empty()).expect("opened");
    }
    rustix::fs::openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::empty()).expect("made");
}

#[test]
fn a_tree_deeper_than_a_path_is_swept() {
    let p = Place::new();
    let store = p.store();
    deep(&p.0.join("store/ingest/1-0"));
    let closed = p.0.join("store/ingest/2-0");
    std::fs::create_dir_all(closed.join("a/b")).expect("made");
    symlink(&p.0, closed.join("a/link")).expect("linked");
    for d in [closed.join("a/b"), closed.join("a"), closed.clone()] {
        std::fs::set_permissions(d, std::os::unix::fs::PermissionsExt::from_mode(0o0)).expect("closed");
    }
    // A root that nobody needs.
    deep(&store.root_path(&Digest::of(b"root")));
    store.collect(none).expect("collected");
    assert_eq!(
        std::fs::read_dir(p.0.join("store/ingest"))
            .expect("listed")
            .count(),
        0
    );
    assert_eq!(
        std::fs::read_dir(p.0.join("store/roots"))
            .expect("listed")
            .count(),
        0
    );
}

fn none() -> Result<BTreeSet<Digest>> {
    Ok(BTreeSet::new())
}

#[test]
fn what_lost_its_name_stays_while_a_run_needs_it() {
    let p = Place::new();
    let store = p.store();
    let [old, _, old_layer] = image(&store, "old", false);
    let [new, ..] = image(&store, "new", false);
    let (tag, digest) = (name("h.example/a:1"), old.digest.to_string());
    let pinned = format!("h.example/a:1@{digest}");
    let named = || Ok(BTreeSet::from([old.digest]));
    let find = |text: &str| store.find(text).map(|(n, b)| (n, b.digest));
    store.tag(&tag, &old).expect("tagged");
    crate::sign::attach(&store, &old, b"signature").expect("attached");
    store.tag(&tag, &new).expect("tagged");
    // A run has noted it.
    assert_eq!(store.collect(named).map(|(_, used)| used), Ok(vec![old.digest]));
    assert_eq!(find(&pinned), Ok((None, old.digest)));
    assert_eq!(find("h.example/a:1"), Ok((Some(tag.name()), new.digest)));
    assert_eq!(crate::sign::of(&store, &old.digest).map(|s| s.len()), Ok(1));
    // A run has its root.
    let chain = Image::open(&store, &old).expect("an image").chain();
    let lock = store.use_root(&chain).expect("locked");
    assert_eq!(store.collect(none).map(|(_, used)| used), Ok(vec![old.digest]));
    // A name again, and removed while it is needed.
    store.tag(&tag, &old).expect("tagged");
    assert_eq!(
        store
            .list()
            .expect("listed")
            .iter()
            .filter(|e| e.blob.digest == old.digest)
            .count(),
        1
    );
    store.untag("h.example/a:1").expect("untagged");
    store.collect(none).expect("collected");
    assert_eq!(find(&digest), Ok((None, old.digest)));
    // An index that has lost it all.
    store.change_index(Vec::clear).expect("changed");
    assert_eq!(find(&digest), Ok((None, old.digest)));
    store.collect(named).expect("collected");
    assert!(store.has(&old) && store.has(&old_layer) && !store.has(&new));
    // Nobody needs it.
    drop(lock);
    store.collect(none).expect("collected");
    assert!(!store.has(&old) && !store.has(&old_layer));
    assert!(store.list().expect("listed").is_empty());
    let hint = format!("ftvm image pull h.example/a@{digest} ");
    assert!(find(&pinned).is_err_and(|e| e.contains(&hint)));
    assert!(find(&digest).is_err_and(|e| e.contains(&format!("pull REPOSITORY@{digest}"))));
}
