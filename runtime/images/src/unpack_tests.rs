//! Layers as they are, as they should not be, and as nobody would make them.

use super::*;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

/// A directory of our own, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("ftl-unpack-{}-{n}", std::process::id()));
        std::fs::create_dir(&dir).expect("a new directory");
        std::fs::create_dir(dir.join("root")).expect("a new directory");
        std::fs::write(dir.join("outside"), "untouched").expect("written");
        Place(dir)
    }
    fn tree(&self) -> Tree {
        Tree::new(&self.0.join("root")).expect("opened")
    }
    fn path(&self, p: &str) -> PathBuf {
        self.0.join("root").join(p)
    }
    fn read(&self, p: &str) -> Option<String> {
        std::fs::read_to_string(self.path(p)).ok()
    }
    /// Nothing beside the root was made or changed.
    fn is_untouched(&self) -> bool {
        let names: BTreeSet<_> = std::fs::read_dir(&self.0)
            .expect("listed")
            .flatten()
            .map(|e| e.file_name())
            .collect();
        names == BTreeSet::from(["outside".into(), "root".into()])
            && std::fs::read_to_string(self.0.join("outside")).is_ok_and(|t| t == "untouched")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = remove_tree(&self.0);
    }
}

/// One entry, with names that tar libraries would not write.
#[derive(Clone, Debug)]
struct Raw {
    kind: u8,
    name: Vec<u8>,
    link: Vec<u8>,
    body: Vec<u8>,
    mode: u32,
    size: Option<u64>,
}

fn raw(kind: u8, name: &str, link: &str, body: &str) -> Raw {
    Raw {
        kind,
        name: name.into(),
        link: link.into(),
        body: body.into(),
        mode: 0o755,
        size: None,
    }
}

fn file(name: &str, body: &str) -> Raw {
    raw(b'0', name, "", body)
}

fn tar_of(entries: &[Raw]) -> Vec<u8> {
    let mut out = Vec::new();
    for e in entries {
        let mut h = tar::Header::new_ustar();
        let bytes = h.as_mut_bytes();
        let n = e.name.len().min(100);
        bytes[..n].copy_from_slice(&e.name[..n]);
        let l = e.link.len().min(100);
        bytes[157..157 + l].copy_from_slice(&e.link[..l]);
        h.set_entry_type(tar::EntryType::new(e.kind));
        h.set_mode(e.mode);
        h.set_uid(u64::from(rustix::process::geteuid().as_raw()));
        h.set_gid(u64::from(rustix::process::getegid().as_raw()));
        h.set_mtime(1_000_000_000);
        h.set_size(e.size.unwrap_or(e.body.len() as u64));
        h.set_cksum();
        out.extend_from_slice(h.as_bytes());
        out.extend_from_slice(&e.body);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn lay(tree: &mut Tree, tar: &[u8]) -> Result<()> {
    tree.layer(tar, tar.len() as u64, Compression::None, &Digest::of(tar))
}

#[test]
fn layers_lie_over_one_another() {
    let p = Place::new();
    let mut t = p.tree();
    let below = [
        raw(b'5', "etc/", "", ""),
        file("etc/a", "a"),
        file("etc/b", "b"),
        raw(b'1', "etc/hard", "etc/a", ""),
        raw(b'2', "lib", "usr/lib", ""),
        raw(b'5', "usr/lib", "", ""),
        file("opq/old", "x"),
        file("opq/sub/old", "x"),
        file("./dir/was/file", "x"),
    ];
    lay(&mut t, &tar_of(&below)).expect("first");
    let above = [
        file("etc/.wh.a", ""),
        file("etc/b", "new"),
        file("lib/x.so", "through the link"),
        file("opq/new", "n"),
        file("opq/.wh..wh..opq", ""),
        file("dir/was", "now a file"),
        // A whiteout is for the layers below, in whatever order.
        file("etc/own", "kept"),
        file("etc/.wh.own", ""),
    ];
    lay(&mut t, &tar_of(&above)).expect("second");
    t.finish().expect("finished");
    assert_eq!(p.read("etc/a"), None);
    assert_eq!(p.read("etc/hard").as_deref(), Some("a"));
    assert_eq!(p.read("etc/b").as_deref(), Some("new"));
    assert_eq!(p.read("etc/own").as_deref(), Some("kept"));
    assert_eq!(p.read("usr/lib/x.so").as_deref(), Some("through the link"));
    assert_eq!(p.read("opq/old"), None);
    assert!(!p.path("opq/sub").exists());
    assert_eq!(p.read("opq/new").as_deref(), Some("n"));
    assert_eq!(p.read("dir/was").as_deref(), Some("now a file"));
    assert_eq!(
        std::fs::metadata(p.path("etc/b")).expect("there").mtime(),
        1_000_000_000
    );
    assert!(p.is_untouched());
}

#[test]
fn what_leads_out_is_refused_or_stays_inside() {
    for (entries, why) in [
        (vec![file("../outside", "bad")], "leads out"),
        (vec![file("a/../../outside", "bad")], "leads out"),
        (vec![file("/etc/x", "bad")], "absolute"),
        (
            vec![file("a", "x"), raw(b'1', "b", "../outside", "")],
            "leads out",
        ),
        (vec![raw(b'1', "b", "/etc/passwd", "")], "absolute"),
        (vec![raw(b'1', "b", "nothing", "")], "hard link to nothing"),
        (
            vec![raw(b'5', "d", "", ""), raw(b'1', "b", "d", "")],
            "to a directory",
        ),
        (vec![raw(b'2', "l", "..", ""), file("l/outside", "bad")], ""),
        (
            vec![raw(b'2', "l", "../../../..", ""), file("l/outside", "bad")],
            "",
        ),
        (
            vec![raw(b'2', "l", "/proc/self/root", ""), file("l/x", "bad")],
            ": ",
        ),
        (
            vec![
                raw(b'2', "outside", "../outside", ""),
                file("outside", "replaces the link"),
            ],
            "",
        ),
        (
            vec![raw(b'2', "l", "../outside", ""), raw(b'1', "h", "l", "")],
            "",
        ),
        (vec![file(".wh...", "")], "whiteout of nothing"),
        (vec![raw(b'2', "l", "..", ""), file("l/.wh.outside", "")], ""),
        (vec![raw(b'Q', "x", "", "")], "unknown kind"),
        (vec![raw(b'2', "x", "", "")], "symlink to nothing"),
    ] {
        let p = Place::new();
        let mut t = p.tree();
        let done = lay(&mut t, &tar_of(&entries)).and_then(|()| t.finish());
        match (&done, why) {
            (Ok(()), "") => {}
            (Err(e), why) if !why.is_empty() => assert!(e.contains(why), "{entries:?}: {e}"),
            _ => panic!("{entries:?}: {done:?}"),
        }
        assert!(p.is_untouched(), "{entries:?}");
    }
}

#[test]
fn a_file_below_is_not_written_in_place() {
    let p = Place::new();
    let mut t = p.tree();
    lay(&mut t, &tar_of(&[file("a", "one"), raw(b'1', "b", "a", "")])).expect("first");
    lay(&mut t, &tar_of(&[file("a", "two")])).expect("second");
    assert_eq!(
        (p.read("a").as_deref(), p.read("b").as_deref()),
        (Some("two"), Some("one"))
    );
}

#[test]
fn bombs_wrong_digests_and_cut_layers_are_refused() {
    use std::io::Write;
    // Zeros of 300 MiB: 300 kB as gzip, so the floor is what bounds them.
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut h = tar::Header::new_ustar();
    h.set_path("zeros").expect("a name");
    h.set_size(300 << 20);
    h.set_mode(0o644);
    h.set_uid(0);
    h.set_gid(0);
    h.set_mtime(0);
    h.set_cksum();
    gz.write_all(h.as_bytes()).expect("packed");
    let block = vec![0; 1 << 20];
    for _ in 0..300 {
        gz.write_all(&block).expect("packed");
    }
    let gz = gz.finish().expect("packed");
    let p = Place::new();
    let done = p
        .tree()
        .layer(&gz[..], gz.len() as u64, Compression::Gzip, &Digest::of(b""));
    assert!(done.is_err_and(|e| e.contains("unpacks to more than")));

    let tar = tar_of(&[file("a", "text")]);
    let done = p
        .tree()
        .layer(&tar[..], tar.len() as u64, Compression::None, &Digest::of(b""));
    assert!(done.is_err_and(|e| e.contains("as the configuration says")));

    let p = Place::new();
    let long = Raw {
        size: Some(5000),
        ..file("a", "text")
    };
    let tar = tar_of(&[long]);
    let done = lay(&mut p.tree(), &tar);
    assert!(done.is_err(), "{done:?}");

    let z = zstd::encode_all(&tar_of(&[file("z", "packed")])[..], 3).expect("packed");
    let p = Place::new();
    let diff = Digest::of(&tar_of(&[file("z", "packed")]));
    assert_eq!(
        p.tree().layer(&z[..], z.len() as u64, Compression::Zstd, &diff),
        Ok(())
    );
    assert_eq!(p.read("z").as_deref(), Some("packed"));
    assert!(
        p.tree()
            .layer(&z[..z.len() - 3], z.len() as u64, Compression::Zstd, &diff)
            .is_err()
    );
}

#[test]
fn attributes_times_and_long_names_come_by_pax() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let mut b = tar::Builder::new(Vec::new());
    b.append_pax_extensions([
        ("SCHILY.xattr.user.note", &b"v"[..]),
        ("mtime", b"1000.25"),
        ("path", long.as_bytes()),
    ])
    .expect("written");
    let mut h = tar::Header::new_ustar();
    h.set_size(1);
    h.set_mode(0o600);
    h.set_uid(u64::from(rustix::process::geteuid().as_raw()));
    h.set_gid(u64::from(rustix::process::getegid().as_raw()));
    b.append_data(&mut h, "short", &b"x"[..]).expect("written");
    let tar = b.into_inner().expect("written");
    let p = Place::new();
    let mut t = p.tree();
    lay(&mut t, &tar).expect("unpacked");
    let meta = std::fs::metadata(p.path(&long)).expect("there");
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1000, 250_000_000));
    let mut v = [0; 8];
    match rustix::fs::getxattr(p.path(&long), "user.note", &mut v[..]) {
        Ok(n) => assert_eq!(&v[..n], b"v"),
        // The disk of the test has none: it was counted.
        Err(_) => assert_eq!(t.lost.attributes, 1),
    }
}

#[test]
fn directories_without_permissions_are_filled_first_and_can_be_removed() {
    let p = Place::new();
    let mut t = p.tree();
    let closed = Raw {
        mode: 0o000,
        ..raw(b'5', "d", "", "")
    };
    lay(&mut t, &tar_of(&[closed, file("d/e/f", "x")])).expect("unpacked");
    t.finish().expect("finished");
    let mode = std::fs::metadata(p.path("d"))
        .expect("there")
        .permissions()
        .mode()
        & 0o777;
    let root = rustix::process::geteuid().is_root();
    assert_eq!(mode, if root { 0 } else { 0o500 });
}

fn any_entry() -> impl Strategy<Value = Raw> {
    let part = prop_oneof![
        Just("a"),
        Just("b"),
        Just("l"),
        Just(".."),
        Just("."),
        Just(""),
        Just("outside"),
        Just(".wh.a"),
        Just(".wh..wh..opq"),
        Just("proc"),
        Just("self"),
        Just("cwd"),
    ];
    let name = proptest::collection::vec(part, 1..5).prop_map(|v| v.join("/"));
    let kind = prop_oneof![
        Just(b'0'),
        Just(b'1'),
        Just(b'2'),
        Just(b'5'),
        Just(b'6'),
        Just(b'3'),
        Just(b'7'),
        any::<u8>()
    ];
    let body = prop_oneof![Just(String::new()), Just("body".to_string())];
    let size = prop_oneof![9 => Just(None), 1 => any::<u64>().prop_map(Some)];
    (kind, name.clone(), name, body, 0..0o10000u32, size, any::<bool>()).prop_map(
        |(kind, name, link, body, mode, size, up)| Raw {
            kind,
            name: name.into(),
            link: if up { format!("../{link}") } else { link }.into(),
            body: body.into(),
            mode,
            size,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever a layer asks for, nothing outside the root is made, changed or removed.
    #[test]
    fn nothing_leaves_the_root(layers in proptest::collection::vec(proptest::collection::vec(any_entry(), 1..12), 1..4)) {
        let p = Place::new();
        let mut t = p.tree();
        for entries in &layers {
            if lay(&mut t, &tar_of(entries)).is_err() {
                break;
            }
        }
        let _ = t.finish();
        prop_assert!(p.is_untouched());
    }

    /// Bytes that are no archive at all end in an error or in nothing.
    #[test]
    fn damaged_archives_do_no_harm(at in 0usize..3000, byte in any::<u8>(), cut in 0usize..4000) {
        let mut tar = tar_of(&[file("a", "text"), raw(b'2', "l", "a", ""), raw(b'5', "d", "", ""), file("d/f", "more")]);
        let n = tar.len();
        tar[at % n] = byte;
        tar.truncate(n - cut % n);
        let p = Place::new();
        let mut t = p.tree();
        let _ = lay(&mut t, &tar).and_then(|()| t.finish());
        prop_assert!(p.is_untouched());
    }

    /// Compressed bytes likewise.
    #[test]
    fn damaged_compression_is_an_error(at in any::<usize>(), bit in 0u8..8) {
        let tar = tar_of(&[file("a", "some text that is packed")]);
        let mut z = zstd::encode_all(&tar[..], 3).expect("packed");
        let n = z.len();
        z[at % n] ^= 1 << bit;
        let p = Place::new();
        let done = p.tree().layer(&z[..], n as u64, Compression::Zstd, &Digest::of(&tar));
        // A bit that means nothing may change without harm; what comes out is what was meant.
        prop_assert!(done.is_err() || p.read("a").as_deref() == Some("some text that is packed"));
    }
}

/// An image of one layer, in a store of its own.
fn stored(p: &Place, layer: &[u8]) -> (Store, crate::store::Blob) {
    let store = Store::open_at(&p.0.join("store")).expect("a store");
    let put = |media: &str, v: serde_json::Value| store.put(media, v.to_string().as_bytes()).expect("put");
    let blob = store
        .put("application/vnd.oci.image.layer.v1.tar", layer)
        .expect("put");
    let config = put(
        crate::MEDIA_CONFIG,
        serde_json::json!({"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [blob.digest.to_string()]}}),
    );
    let manifest = put(
        crate::MEDIA_MANIFEST,
        serde_json::json!({"schemaVersion": 2, "mediaType": crate::MEDIA_MANIFEST, "config": config.json(),
            "layers": [blob.json()]}),
    );
    let name = crate::reference::Reference::parse("h.example/x:1").expect("a name");
    store.tag(&name, &manifest).expect("tagged");
    (store, manifest)
}

#[test]
fn a_blob_that_was_damaged_is_fetched_again() {
    let p = Place::new();
    let layer = tar_of(&[file("a", "whole")]);
    let (store, manifest) = stored(&p, &layer);
    let image = Image::open(&store, &manifest).expect("an image");
    let blob = image.layers[0].0.clone();
    let mut bad = layer.clone();
    bad[512] ^= 1;
    std::fs::write(store.blob_path(&blob.digest), &bad).expect("written");
    assert!(store.has(&blob), "by its length it is there");
    let why = root(&store, &image).expect_err("damaged");
    assert!(
        why.contains("was damaged and was removed; pull the image again"),
        "{why}"
    );
    assert!(!store.has(&blob) && !store.root_path(&image.chain()).exists());
    store.put(&blob.media, &layer).expect("put");
    let (dir, _) = root(&store, &image).expect("unpacked");
    assert_eq!(std::fs::read_to_string(dir.join("a")).expect("read"), "whole");
}

#[test]
fn signatures_of_nothing_are_swept() {
    let p = Place::new();
    let (store, manifest) = stored(&p, &tar_of(&[file("a", "")]));
    let kept = crate::sign::attach(&store, &manifest, b"one").expect("attached");
    let refused = crate::store::Blob {
        digest: Digest::of(b"an image that was refused"),
        ..manifest.clone()
    };
    let lost = crate::sign::attach(&store, &refused, b"two").expect("attached");
    store.collect(|| Ok(BTreeSet::new())).expect("collected");
    let left: Vec<_> = store
        .list()
        .expect("listed")
        .into_iter()
        .map(|e| e.blob.digest)
        .collect();
    assert!(
        left.contains(&kept.digest) && left.contains(&manifest.digest),
        "{left:?}"
    );
    assert!(!left.contains(&lost.digest) && !store.has(&lost), "{left:?}");
}

/// One record of PAX.
fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut n = rest + 1;
    while n != rest + n.to_string().len() {
        n = rest + n.to_string().len();
    }
    format!("{n} {key}={value}\n")
}

#[test]
fn extension_headers_are_bounded_and_their_order_is_checked() {
    let big = |kind: u8| Raw {
        size: Some(crate::entries::MAX_EXTENSION + 1),
        ..raw(kind, "x", "", "")
    };
    let x = |body: &str| raw(b'x', "x", "", body);
    for (entries, why) in [
        // Nothing of it is there: who would read it whole ends otherwise.
        (vec![big(b'L')], "1048577 bytes"),
        (vec![big(b'K')], "1048577 bytes"),
        (vec![big(b'x')], "1048577 bytes"),
        (
            vec![raw(b'L', "x", "", "n"), raw(b'L', "x", "", "n"), file("a", "")],
            "two long names",
        ),
        (
            vec![x(&record("path", "a")), x(&record("path", "b")), file("a", "")],
            "two long names",
        ),
        (vec![raw(b'L', "x", "", "n")], "belongs to another entry"),
        (vec![x("9 path=a\n"), file("a", "")], ""),
        (vec![x("99 path=a\n"), file("a", "")], "list of attributes"),
        (vec![x("9 path-a\n"), file("a", "")], "list of attributes"),
        (vec![x("1"), file("a", "")], "list of attributes"),
        (
            vec![x(&record("size", "many")), file("a", "")],
            "size: not a number",
        ),
        (
            vec![x(&record("size", &u64::MAX.to_string())), file("a", "")],
            "cannot be",
        ),
        (
            vec![x(&record("GNU.sparse.major", "1")), file("a", "")],
            "sparse file in PAX",
        ),
        (vec![raw(b'S', "a", "", "")], "parts cannot be"),
    ] {
        let p = Place::new();
        let done = lay(&mut p.tree(), &tar_of(&entries));
        match why {
            "" => assert_eq!(done, Ok(()), "{entries:?}"),
            why => assert!(
                done.as_ref().is_err_and(|e| e.contains(why)),
                "{entries:?}: {done:?}"
            ),
        }
    }
}

#[test]
fn long_names_sizes_and_lines_in_attributes_are_read_as_written() {
    let deep = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let p = Place::new();
    let mut t = p.tree();
    let text = "what PAX's size says";
    let note = record("SCHILY.xattr.user.note", "two\nlines=1");
    let entries = [
        raw(b'g', "g", "", &record("path", "not for anybody")),
        raw(b'L', "x", "", &format!("{deep}\0")),
        file("short", "by GNU"),
        raw(b'K', "x", "", &format!("{deep}\0")),
        raw(b'1', "hard", "short", ""),
        raw(b'x', "x", "", &record("linkpath", &deep)),
        // The size of what it leads to, as some archives tell it.
        Raw {
            size: Some(6),
            ..raw(b'2', "soft", "short", "")
        },
        raw(
            b'x',
            "x",
            "",
            &format!("{}{note}", record("size", &text.len().to_string())),
        ),
        Raw {
            size: Some(0),
            ..file("sized", text)
        },
        file("last", "is found"),
    ];
    lay(&mut t, &tar_of(&entries)).expect("unpacked");
    assert_eq!(p.read(&deep).as_deref(), Some("by GNU"));
    assert_eq!(p.read("hard").as_deref(), Some("by GNU"));
    assert_eq!(p.read("soft").as_deref(), Some("by GNU"));
    assert_eq!(p.read("sized").as_deref(), Some(text));
    assert_eq!(p.read("last").as_deref(), Some("is found"));
    let mut v = [0; 32];
    match rustix::fs::getxattr(p.path("sized"), "user.note", &mut v[..]) {
        Ok(n) => assert_eq!(&v[..n], b"two\nlines=1"),
        Err(_) => assert_eq!(t.lost.attributes, 1),
    }
}

/// GNU tar's own archive of a file with many holes: more parts than its header has room for.
#[test]
fn a_sparse_file_of_gnu_tar_is_whole() {
    use std::io::{Seek, SeekFrom};
    let p = Place::new();
    let from = p.0.join("from");
    std::fs::create_dir(&from).expect("made");
    let mut f = File::create(from.join("s")).expect("made");
    for n in 0..40u64 {
        f.seek(SeekFrom::Start(n * (128 << 10))).expect("sought");
        f.write_all(&[n as u8 + 1; 4096]).expect("written");
    }
    f.set_len(41 * (128 << 10)).expect("longer");
    let out = std::process::Command::new("tar")
        .args(["--format=gnu", "--sparse", "-cf", "-", "-C"])
        .arg(&from)
        .arg("s")
        .output()
        .expect("tar runs");
    assert!(out.status.success());
    assert!(
        out.stdout[156] == b'S' && out.stdout.len() < (1 << 20),
        "packed as a sparse file"
    );
    lay(&mut p.tree(), &out.stdout).expect("unpacked");
    let (a, b) = (std::fs::read(from.join("s")), std::fs::read(p.path("s")));
    assert!(a.expect("read") == b.expect("read"));
}

#[test]
fn a_tree_that_is_too_deep_is_refused_and_can_be_removed() {
    let chain = |from: &str| {
        let mut out = from.to_string();
        while out.len() < 2000 {
            out += "/d";
        }
        out
    };
    let (one, two) = (chain("a"), chain("l"));
    let records = |key: &str, value: &str| raw(b'x', "x", "", &record(key, value));
    for entries in [
        vec![records("path", &format!("{one}/{one}")), file("x", "")],
        // Each name is short enough, and begins where the one before it ends.
        vec![
            records("path", &one),
            raw(b'5', "x", "", ""),
            records("linkpath", &one),
            raw(b'2', "l", "", ""),
            records("path", &two),
            raw(b'5', "x", "", ""),
            records("linkpath", &two),
            raw(b'2', "m", "", ""),
            records("path", &chain("m")),
            raw(b'5', "x", "", ""),
        ],
    ] {
        let p = Place::new();
        let mut t = p.tree();
        let done = lay(&mut t, &tar_of(&entries));
        assert!(done.as_ref().is_err_and(|e| e.contains("too deep")), "{done:?}");
        remove_tree(&p.path("")).expect("removed");
    }
}

#[test]
fn an_opaque_directory_hides_what_is_below_its_siblings_too() {
    let p = Place::new();
    let mut t = p.tree();
    let below = [
        file("d/old", "x"),
        file("d/sub/old", "x"),
        file("d/sub/deep/old", "x"),
        file("d/made/old", "x"),
        file("e/old", "x"),
    ];
    lay(&mut t, &tar_of(&below)).expect("first");
    let above = [
        file("d/sub/deep/new", "n"),
        raw(b'5', "d/made", "", ""),
        raw(b'2', "d/link", "../e", ""),
        file("d/file", "n"),
        file("d/.wh..wh..opq", ""),
        file("d/after", "n"),
    ];
    lay(&mut t, &tar_of(&above)).expect("second");
    t.finish().expect("finished");
    for gone in ["d/old", "d/sub/old", "d/sub/deep/old", "d/made/old"] {
        assert!(!p.path(gone).exists(), "{gone}");
    }
    for kept in ["d/sub/deep/new", "d/file", "d/after"] {
        assert_eq!(p.read(kept).as_deref(), Some("n"), "{kept}");
    }
    assert!(p.path("d/made").is_dir());
    assert_eq!(p.read("e/old").as_deref(), Some("x"), "behind a link");
}

#[test]
fn attributes_outlive_a_new_owner_and_another_layer_or_are_counted() {
    let p = Place::new();
    let mut t = p.tree();
    // cap_net_bind_service=ep, revision 2.
    let caps = format!("\x01\0\0\x02\0\x04{}", "\0".repeat(14));
    let note = record("SCHILY.xattr.user.note", "v");
    let entries = [
        raw(
            b'x',
            "x",
            "",
            &format!(
                "{}{}",
                record("SCHILY.xattr.security.capability", &caps),
                record("uid", "1")
            ),
        ),
        file("bound", "x"),
        raw(b'x', "x", "", &note),
        raw(b'5', "dir", "", ""),
        raw(b'x', "x", "", &note),
        raw(b'2', "link", "bound", ""),
    ];
    lay(&mut t, &tar_of(&entries)).expect("unpacked");
    t.finish().expect("finished");
    let has = |path: &Path, name: &str| rustix::fs::getxattr(path, name, &mut [0; 64][..]).is_ok();
    let kept =
        u64::from(has(&p.path("bound"), "security.capability")) + u64::from(has(&p.path("dir"), "user.note"));
    assert_eq!(kept + t.lost.attributes, 3);
    // A root over this one.
    let q = Place::new();
    let mut over = q.tree();
    // Links are made on one disk only.
    over.link_all(&p.path(""), Path::new("")).expect("linked");
    for (path, name) in [("dir", "user.note"), ("bound", "security.capability")] {
        assert_eq!(has(&p.path(path), name), has(&q.path(path), name), "{path}");
    }
}
