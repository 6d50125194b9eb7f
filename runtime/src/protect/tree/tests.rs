use super::*;
use std::os::fd::FromRawFd;

/// A place of its own, removed in the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("ftl-tree-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("made");
        Place(dir)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn tree(&self) -> Tree {
        Tree::hold_at(&self.0.join("tree")).expect("held")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn hash_of(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

fn named(path: &Path, bytes: &[u8]) -> Named {
    Named {
        path: path.as_os_str().as_bytes().to_vec(),
        size: bytes.len() as u64,
        hash: hash_of(bytes),
    }
}

/// A file of the primary's host, which the other host sees at `path` or not at all.
fn used(at: &Path, path: &Path, bytes: &[u8]) -> Used {
    Used {
        named: named(path, bytes),
        file: File::open(at).expect("open"),
    }
}

/// Offers files to a host with this tree. Returns how many were sent, and what the other side says.
fn between(tree: &mut Tree, all: Vec<Used>) -> (Result<usize, String>, Result<(), String>) {
    let listener = link::Listener::bind("127.0.0.1:0", Security::Insecure).expect("bound");
    let at = listener.local().expect("known").to_string();
    let primary = std::thread::spawn(move || {
        let mut link = link::connect_saying(&at, &[], &Security::Insecure, PATIENCE).expect("connected");
        offer_over(&mut link, 7, &all)
    });
    let (mut link, _) = listener.accept().expect("accepted");
    link.handshake(PATIENCE).expect("known");
    let (kind, offer) = receive(&mut link).expect("an offer");
    assert_eq!(kind, Kind::Offer);
    let (image, files) = offered(&offer).expect("whole");
    assert_eq!(image, 7);
    let done = take_all(&mut link, files, tree);
    match &done {
        Ok(()) => send(&mut link, Kind::Here, &[]).expect("said"),
        Err(why) => send(&mut link, Kind::No, why.as_bytes()).expect("said"),
    }
    let _ = link.drain(PATIENCE);
    (primary.join().expect("no panic"), done)
}

fn row(path: &Path) -> FileRow {
    FileRow {
        path: path.as_os_str().as_bytes().to_vec(),
        regular: true,
        ..FileRow::default()
    }
}

#[test]
fn what_is_not_at_its_path_is_kept_as_a_copy() {
    let p = Place::new("copy");
    let mut tree = p.tree();
    // More than one piece; missing here, other contents here, the same here.
    let large: Vec<u8> = (0..PIECE * 3 + 5).map(|i| (i % 251) as u8).collect();
    let (missing, other, same) = (
        p.0.join("missing"),
        p.write("other", b"b's"),
        p.write("same", b"both"),
    );
    let (at_a, other_at_a) = (p.write("at-a", &large), p.write("other-at-a", b"a's"));
    let all = vec![
        used(&at_a, &missing, &large),
        used(&other_at_a, &other, b"a's"),
        used(&same, &same, b"both"),
    ];
    assert_eq!(between(&mut tree, all), (Ok(2), Ok(())));
    drop(tree);
    let tree = p.tree();
    assert_eq!(tree.copies().count(), 2);
    let stands_in = |path: &Path| {
        let row = tree.stand_in(&row(path));
        std::fs::read(OsStr::from_bytes(&row.path)).ok()
    };
    assert_eq!(stands_in(&missing), Some(large.clone()));
    assert_eq!(stands_in(&other), Some(b"a's".to_vec()));
    assert_eq!(tree.stand_in(&row(&same)), row(&same));
    assert_eq!(
        tree.stand_in(&row(Path::new("/not/offered"))),
        row(Path::new("/not/offered"))
    );
    // Mapped files are opened by their contents.
    let mut files = tree.files();
    for n in [
        named(&missing, &large),
        named(&other, b"a's"),
        named(&same, b"both"),
    ] {
        let fd = files.open(&(n.path.clone(), n.size, n.hash)).expect("here");
        // SAFETY: a new descriptor.
        drop(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) });
    }
    let nowhere = named(&missing, b"what nobody has");
    assert!(files.open(&(nowhere.path, nowhere.size, nowhere.hash)).is_err());
    // By the names of what they stand for, which another backup is told.
    let names: BTreeSet<Vec<u8>> = tree.copies().map(|(_, original)| original).collect();
    assert!(names.contains(missing.as_os_str().as_bytes()) && names.contains(other.as_os_str().as_bytes()));
}

#[test]
fn what_is_here_already_is_not_asked_for() {
    let p = Place::new("again");
    let at_a = p.write("at-a", b"once");
    let path = p.0.join("missing");
    let mut tree = p.tree();
    assert_eq!(
        between(&mut tree, vec![used(&at_a, &path, b"once")]),
        (Ok(1), Ok(()))
    );
    assert_eq!(
        between(&mut tree, vec![used(&at_a, &path, b"once")]),
        (Ok(0), Ok(()))
    );
    // Two versions are kept, and their copies; the newest stands in for the path.
    for n in 0..4u8 {
        let at = p.write("at-a", &[n; 9]);
        assert_eq!(
            between(&mut tree, vec![used(&at, &path, &[n; 9])]),
            (Ok(1), Ok(()))
        );
    }
    let stands_in = tree.stand_in(&row(&path));
    assert_eq!(
        std::fs::read(OsStr::from_bytes(&stands_in.path)).expect("read"),
        [3; 9]
    );
    let copies = std::fs::read_dir(p.0.join("tree/files")).expect("there").count();
    assert_eq!((tree.rows.len(), copies), (2, 2));
}

#[test]
fn what_changes_while_it_is_sent_is_refused() {
    let p = Place::new("changed");
    let mut tree = p.tree();
    let at = p.write("at-a", b"now it is this");
    let (sent, done) = between(
        &mut tree,
        vec![used(&at, &p.0.join("missing"), b"then it was it")],
    );
    assert!(sent.is_err() && done.is_err_and(|e| e.contains("changed while it was sent")));
    let (sent, done) = between(
        &mut tree,
        vec![used(&at, &p.0.join("missing"), b"it was longer once, and is not")],
    );
    assert!(sent.is_err_and(|e| e.contains("shorter")) && done.is_err());
    assert_eq!(
        std::fs::read_dir(p.0.join("tree/files")).expect("there").count(),
        0
    );
    assert!(tree.rows.is_empty());
}

#[test]
fn offers_that_are_damaged_are_refused() {
    let file = named(Path::new("/x"), b"x");
    let offer = |version: u64, files: &[Named]| {
        let mut out = Vec::new();
        (version, 7u64).put(&mut out);
        put_list(files, &mut out);
        out
    };
    let whole = offer(VERSION, std::slice::from_ref(&file));
    assert_eq!(offered(&whole), Ok((7, vec![file.clone()])));
    for n in 0..whole.len() {
        assert!(offered(&whole[..n]).is_err(), "{n} bytes");
    }
    assert!(offered(&offer(VERSION + 1, std::slice::from_ref(&file))).is_err());
    let many = vec![file.clone(); MOST + 1];
    assert!(offered(&offer(VERSION, &many)).is_err());
    let huge = Named {
        size: u64::MAX,
        ..file
    };
    assert!(offered(&offer(VERSION, &[huge])).is_err());
}

#[test]
fn a_damaged_index_is_none() {
    let p = Place::new("index");
    let at = p.write("at-a", b"x");
    let mut tree = p.tree();
    assert_eq!(
        between(&mut tree, vec![used(&at, &p.0.join("missing"), b"x")]),
        (Ok(1), Ok(()))
    );
    let index = p.0.join("tree/index");
    let whole = std::fs::read(&index).expect("there");
    for n in 0..whole.len() {
        std::fs::write(&index, &whole[..n]).expect("written");
        assert!(p.tree().rows.is_empty(), "{n} bytes");
    }
    // The copy is found again by what it holds.
    let mut tree = p.tree();
    assert_eq!(
        between(&mut tree, vec![used(&at, &p.0.join("missing"), b"x")]),
        (Ok(0), Ok(()))
    );
}

#[test]
fn directories_go_when_nobody_uses_them() {
    let p = Place::new("sweep");
    let used = Tree::hold_at(&p.0.join("1")).expect("held");
    drop(Tree::hold_at(&p.0.join("2")).expect("held"));
    sweep(&p.0, UNUSED);
    assert!(p.0.join("2").is_dir(), "its standby may be about to come");
    sweep(&p.0, Duration::ZERO);
    assert!(p.0.join("1").is_dir() && !p.0.join("2").exists());
    let second = Tree::hold_at(&p.0.join("1")).expect("held");
    used.remove();
    assert!(p.0.join("1").is_dir(), "another one uses it");
    second.remove();
    assert!(!p.0.join("1").exists());
}

#[test]
fn what_is_replaced_at_the_backup_is_still_held() {
    let p = Place::new("held");
    let (same, fifo) = (p.write("same", b"both"), p.write("fifo", b"both too"));
    let mut tree = p.tree();
    let all = vec![used(&same, &same, b"both"), used(&fifo, &fifo, b"both too")];
    assert_eq!(between(&mut tree, all), (Ok(0), Ok(())));
    std::fs::remove_file(&fifo).expect("removed");
    make_fifo(&fifo);
    tree.hold_files();
    // An upgrade of this host replaces it, as package managers do.
    std::fs::rename(p.write("new", b"another version"), &same).expect("replaced");
    // Another file comes; what is held stays so.
    let more = p.write("more", b"more");
    assert_eq!(
        between(&mut p.tree(), vec![used(&more, &more, b"more")]),
        (Ok(0), Ok(()))
    );
    tree.hold_files();
    let passed = tree.pass();
    assert_eq!(passed.len(), 2);
    let mut here = Tree::at(&p.0.join("tree"));
    here.passed(&passed);
    let n = named(&same, b"both");
    let fd = here.files().open(&(n.path, n.size, n.hash)).expect("held");
    // SAFETY: a new descriptor.
    let mapped = File::from(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) });
    let text = |mut f: File| {
        let mut text = String::new();
        f.read_to_string(&mut text).map(|_| text)
    };
    assert_eq!(text(mapped).expect("read"), "both");
    let open = here.stand_in(&row(&same));
    assert_eq!(
        text(File::open(OsStr::from_bytes(&open.path)).expect("open")).expect("read"),
        "both"
    );
    // One that is written in place is not what it was.
    std::fs::write(OsStr::from_bytes(&open.path), "changed").expect("written");
    let mut here = Tree::at(&p.0.join("tree"));
    here.passed(&passed);
    assert_eq!(here.stand_in(&row(&same)), row(&same));
    for (_, fd) in passed {
        // SAFETY: our own descriptor.
        drop(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) });
    }
}

fn make_fifo(path: &Path) {
    let c = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("a path");
    // SAFETY: a C string.
    assert_eq!(unsafe { libc::mkfifo(c.as_ptr(), 0o600) }, 0);
}
