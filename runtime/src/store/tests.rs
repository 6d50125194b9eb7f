//! The store on a real file system: sharing, collection, writers that die.

use super::file::{HostFile, Unpublished, sweep};
use super::open::Opener;
use super::pack::Packs;
use super::write::StoreWriter;
use super::*;
use ftl_core::snap::{Chain, Header, Manifest, Object, PAGE_LEN, Writer};
use std::os::unix::fs::PermissionsExt;

/// A folder of its own, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("ftvm-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("made");
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn header(image: u64, parent: Option<Root>) -> Header {
    Header {
        build: [1; 16],
        image,
        version: "0.1.0".into(),
        parent,
        compressed: false,
        lock: None,
        external: false,
        with_runtime: false,
        with_volumes: false,
    }
}

fn page(n: u64) -> [u8; PAGE_LEN] {
    std::array::from_fn(|i| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (i % 57)) as u8 | 1)
}

fn pages(which: std::ops::Range<u64>) -> Vec<u8> {
    which.flat_map(page).collect()
}

fn put(store: &Store, image: u64, which: std::ops::Range<u64>) -> (Root, write::Added) {
    let (packs, complaints) = Packs::open(store).expect("packs");
    assert!(complaints.is_empty());
    let mut w = StoreWriter::begin(store, &packs, header(image, None)).expect("begun");
    w.pages(Object::Arena, 100, &pages(which)).expect("written");
    w.finish(Manifest::default()).expect("published")
}

fn packs_of(store: &Store) -> Rc<Packs> {
    Rc::new(Packs::open(store).expect("packs").0)
}

fn good(store: &Store, root: &Root, which: std::ops::Range<u64>) {
    let s = store.snapshot(root, &packs_of(store)).expect("there");
    let mut seen = Vec::new();
    s.for_each_run::<ftl_core::snap::SnapError>(|_, _, b| {
        seen.extend_from_slice(b);
        Ok(())
    })
    .expect("all pages are good");
    assert!(seen == pages(which));
}

#[test]
fn snapshots_share_pages() {
    let dir = Dir::new("share");
    let store = Store::open_at(&dir.0.join("store")).expect("store");
    let (a, added) = put(&store, 1, 0..100);
    assert_eq!((added.pages, added.new_pages), (100, 100));
    let (b, added) = put(&store, 1, 10..110);
    assert_eq!((added.pages, added.new_pages), (100, 10));
    let (again, added) = put(&store, 1, 0..100);
    assert_eq!((again, added.new_pages), (a, 0));
    good(&store, &a, 0..100);
    good(&store, &b, 10..110);
    assert_eq!(store.list().expect("list").len(), 2);
    assert_eq!(store.find(&hex(&b)[..12]).expect("found").root, b);
    assert!(store.find("").is_err() && store.find("zz").is_err());
    for sub in ["packs", "refs"] {
        for item in std::fs::read_dir(store.dir().join(sub)).expect("there") {
            let mode = item.expect("item").metadata().expect("meta").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}

#[test]
fn what_nobody_names_is_collected() {
    let dir = Dir::new("gc");
    let open = || Store::open_at(&dir.0.join("store")).expect("store");
    let store = open();
    let (a, _) = put(&store, 1, 0..100);
    let (b, _) = put(&store, 1, 90..200);
    store.remove(&a).expect("removed");
    drop(store);
    let plan = gc::collect(open(), true).expect("counted");
    assert_eq!((plan.pages, plan.live, plan.removed), (200, 110, 90));
    assert_eq!(gc::collect(open(), false).expect("collected").removed, 90);
    let again = gc::collect(open(), false).expect("collected");
    assert_eq!((again.pages, again.live, again.removed), (110, 110, 0));
    good(&open(), &b, 90..200);
    open().remove(&b).expect("removed");
    assert_eq!(gc::collect(open(), false).expect("collected").removed, 110);
    assert_eq!(
        std::fs::read_dir(dir.0.join("store/packs"))
            .expect("there")
            .count(),
        0
    );
}

#[test]
fn collection_stops_at_what_it_cannot_read() {
    let dir = Dir::new("stop");
    let open = || Store::open_at(&dir.0.join("store")).expect("store");
    let (a, _) = put(&open(), 1, 0..10);
    let (b, _) = put(&open(), 2, 10..20);
    let path = open().path_of(&a);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[9] ^= 1;
    std::fs::write(&path, &bytes).expect("damaged");
    let e = gc::collect(open(), false).expect_err("refused");
    assert!(e.contains(path.to_str().expect("text")), "{e}");
    good(&open(), &b, 10..20);
    // A page that is not what it was is found when it is read.
    open().remove(&a).expect("removed");
    let pack = packs_of(&open()).packs()[0].path.clone();
    let mut bytes = std::fs::read(&pack).expect("read");
    bytes[4096 + 5000] ^= 1;
    std::fs::write(&pack, &bytes).expect("damaged");
    let roots = [a, b].map(|r| {
        open()
            .snapshot(&r, &packs_of(&open()))
            .and_then(|s| s.verify().map_err(|e| e.to_string()))
    });
    assert!(roots.iter().all(Result::is_err) || gc::collect(open(), false).is_ok());
    // A damaged head: its pages are missing, and that is said.
    bytes[20] ^= 1;
    std::fs::write(&pack, &bytes).expect("damaged");
    assert_eq!(Packs::open(&open()).expect("others").1.len(), 1);
    assert!(gc::collect(open(), false).is_err());
}

#[test]
fn unfinished_files_vanish() {
    let dir = Dir::new("part");
    let to = dir.0.join("web.ftsnap");
    std::fs::write(&to, b"before").expect("written");
    let names = || std::fs::read_dir(&dir.0).expect("there").count();
    {
        let mut w = Unpublished::create(&to).expect("begun");
        w.write(b"half").expect("written");
        assert_eq!(names(), 2);
        assert_eq!(sweep(&dir.0), 0, "its writer lives");
    }
    assert_eq!(names(), 1);
    // A dead writer's: nobody holds the lock.
    std::fs::write(dir.0.join(".ftvm-web.ftsnap.1-1.part"), b"half").expect("written");
    let mut w = Unpublished::create(&to).expect("begun");
    assert_eq!(names(), 2);
    assert_eq!(std::fs::read(&to).expect("there"), b"before");
    w.write(b"after").expect("written");
    w.publish().expect("published");
    assert_eq!(std::fs::read(&to).expect("there"), b"after");
    assert_eq!(
        (
            names(),
            std::fs::metadata(&to).expect("meta").permissions().mode() & 0o777
        ),
        (1, 0o600)
    );
}

/// As the checkpoint verb writes files.
fn write_file(to: &Path, image: u64, parent: Option<Root>, which: std::ops::Range<u64>) -> Root {
    let mut file = Unpublished::create(to).expect("begun");
    let mut out = |b: &[u8]| file.write(b);
    let mut w = Writer::begin(header(image, parent), None, &mut out).expect("begun");
    for p in which {
        w.pages(Object::Arena, p, &page(p), &mut out).expect("written");
    }
    let root = w.finish(Manifest::default(), &mut out).expect("ended");
    file.publish().expect("published");
    root
}

#[test]
fn parents_are_found() {
    let dir = Dir::new("parents");
    let at = |name: &str| dir.0.join(name);
    let a = write_file(&at("a.ftsnap"), 7, None, 0..5);
    let b = write_file(&at("b.ftsnap"), 7, Some(a), 5..8);
    let c = write_file(&at("c.ftsnap"), 7, Some(b), 8..9);
    let opened = Opener::default().chain(&at("c.ftsnap")).expect("all are there");
    assert_eq!(opened.files, [at("a.ftsnap"), at("b.ftsnap"), at("c.ftsnap")]);
    assert_eq!((*opened.chain.last().root(), opened.chain.data_pages()), (c, 9));
    // Elsewhere, by name.
    std::fs::create_dir(at("old")).expect("made");
    std::fs::rename(at("a.ftsnap"), at("old/a.ftsnap")).expect("moved");
    let lost = Opener::default()
        .chain(&at("c.ftsnap"))
        .err()
        .expect("a is not there");
    assert!(lost.contains("b.ftsnap") && lost.contains(&hex(&a)), "{lost}");
    let mut opener = Opener::default();
    opener.parents.push(at("old/a.ftsnap"));
    let opened = opener.chain(&at("c.ftsnap")).expect("a is named");
    // Squashed, the last but one stands for it.
    let mut full = Unpublished::create(&at("full.ftsnap")).expect("begun");
    let two = Chain::new(vec![
        opener.one(&at("old/a.ftsnap")).expect("good"),
        opener.one(&at("b.ftsnap")).expect("good"),
    ])
    .expect("a chain");
    let to_file = |b: &[u8]| full.write(b).map_err(write::Fault::Store);
    two.squash(true, None, &mut { to_file })
        .map_err(write::Fault::text)
        .expect("squashed");
    full.publish().expect("published");
    std::fs::remove_file(at("b.ftsnap")).expect("removed");
    let short = Opener::default()
        .chain(&at("c.ftsnap"))
        .expect("full stands for b");
    assert_eq!(short.files, [at("full.ftsnap"), at("c.ftsnap")]);
    assert_eq!(short.chain.data_pages(), opened.chain.data_pages());
}

#[test]
fn encryption_takes_the_right_passphrase() {
    let lock = ftl_core::snap::Lock {
        memory_kib: 64,
        passes: 1,
        ..crypt::new_lock().expect("random")
    };
    assert_ne!(lock.salt, crypt::new_lock().expect("random").salt);
    let c = crypt::cipher(&lock, b"right").expect("made");
    let mut bytes = b"secret".to_vec();
    c.seal(4096, b"header", &mut bytes);
    assert!(bytes.len() == 6 + 16 && !bytes.starts_with(b"secret"));
    for (key, number, aad, same) in [
        (b"right", 4096, b"header", true),
        (b"wrong", 4096, b"header", false),
        (b"right", 4097, b"header", false),
        (b"right", 4096, b"hEader", false),
    ] {
        let mut b = bytes.clone();
        assert_eq!(
            crypt::cipher(&lock, key).expect("made").open(number, aad, &mut b),
            same
        );
        assert_eq!(b == b"secret", same);
    }
    for (memory_kib, passes) in [(u32::MAX, 1), (64, u32::MAX), (0, 1), (64, 0)] {
        let hostile = ftl_core::snap::Lock {
            memory_kib,
            passes,
            ..lock
        };
        assert!(crypt::cipher(&hostile, b"right").is_err());
    }
}

const CHILD: &str = "FTVM_TEST_STORE_WRITER";

/// A writer is killed at random moments, again and again: what was published stays, and stays whole.
#[test]
fn a_killed_writer_leaves_the_last_snapshot_good() {
    if let Some(dir) = std::env::var_os(CHILD) {
        writer_until_killed(Path::new(&dir));
    }
    let dir = Dir::new("kill");
    let first = write_file(&dir.0.join("web.ftsnap"), 7, None, 0..3);
    let exe = std::env::current_exe().expect("known");
    let mut roots = std::collections::BTreeSet::from([first]);
    let mut wait_us = 1u64;
    for n in 0..100 {
        let mut child = std::process::Command::new(&exe)
            .args([
                "--exact",
                "store::tests::a_killed_writer_leaves_the_last_snapshot_good",
            ])
            .env(CHILD, &dir.0)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("started");
        // Another moment each time, from before it has begun to after it has published several: its start takes as long as the machine likes.
        let said = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        if n % 4 != 0 {
            let mut lines = std::io::BufRead::lines(said).map_while(Result::ok);
            assert!(lines.any(|l| l.contains(BEGUN)), "the writer has not begun");
        }
        wait_us = wait_us.wrapping_mul(6_364_136_223_846_793_005) % 39_999;
        std::thread::sleep(std::time::Duration::from_micros(wait_us));
        // However slow the disk is, some publish before they die.
        if n % 8 == 1 {
            let web = dir.0.join("web.ftsnap");
            let made = || std::fs::metadata(&web).and_then(|m| m.modified()).expect("there");
            let (before, end) = (
                made(),
                std::time::Instant::now() + std::time::Duration::from_secs(60),
            );
            while made() == before {
                assert!(std::time::Instant::now() < end, "it publishes nothing");
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        let opened = Opener::default()
            .chain(&dir.0.join("web.ftsnap"))
            .expect("there is always one");
        opened.chain.last().verify().expect("whole");
        roots.insert(*opened.chain.last().root());
        let store = Store::open_at(&dir.0.join("store")).expect("opens");
        let packs = packs_of(&store);
        for e in store.list().expect("list") {
            store
                .snapshot(&e.root, &packs)
                .expect("whole")
                .verify()
                .expect("all pages are there");
        }
    }
    assert!(roots.len() > 10, "it did publish: {}", roots.len());
    // The next writer removes what the dead ones left.
    write_file(&dir.0.join("web.ftsnap"), 7, None, 0..3);
    let left: Vec<_> = std::fs::read_dir(&dir.0)
        .expect("there")
        .map(|i| i.expect("item").file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    let store = dir.0.join("store");
    gc::collect(Store::open_at(&store).expect("store"), false).expect("collected");
    let parts = |d: &str| {
        std::fs::read_dir(store.join(d))
            .expect("there")
            .filter(|i| {
                i.as_ref()
                    .expect("item")
                    .file_name()
                    .as_encoded_bytes()
                    .starts_with(b".")
            })
            .count()
    };
    assert_eq!((parts("packs"), parts("refs")), (0, 0));
}

const BEGUN: &str = "the writer has begun";

fn writer_until_killed(dir: &Path) -> ! {
    // Not by a macro, whose text the test runner keeps.
    std::io::Write::write_all(&mut std::io::stdout(), format!("\n{BEGUN}\n").as_bytes()).expect("said");
    let start = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("now")
        .as_nanos() as u64;
    for n in 0.. {
        let from = (start ^ n) << 8;
        let from = from % (1 << 30);
        write_file(&dir.join("web.ftsnap"), 7, None, from..from + 40);
        let store = Store::open_at(&dir.join("store")).expect("store");
        put(&store, 7, from..from + 40);
    }
    unreachable!()
}

#[test]
fn strange_files_are_refused() {
    let dir = Dir::new("strange");
    assert!(
        HostFile::open(&dir.0)
            .expect_err("a folder")
            .contains("not a file")
    );
    assert!(HostFile::open(&dir.0.join("none")).is_err());
    std::fs::write(dir.0.join("text"), b"hello").expect("written");
    let e = Opener::default().one(&dir.0.join("text")).err().expect("refused");
    assert!(e.contains("not a snapshot"), "{e}");
    std::fs::set_permissions(&dir.0, std::fs::Permissions::from_mode(0o755)).expect("set");
    assert!(
        Store::open_at(&dir.0)
            .err()
            .expect("open to others")
            .contains("chmod 700")
    );
}
