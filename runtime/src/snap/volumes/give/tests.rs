//! Directories into a snapshot's file and out of it again.

use super::super::hold::Copied;
use super::super::{Policy, Volume};
use super::*;
use crate::platform::moved::Map;
use crate::snap::file::ToFile;
use crate::snap::state::{FileRow, HostState};
use crate::store::open::Opener;
use ftl_core::snap::tree::Top as TreeTop;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

fn begun(tree: &Tree, dirs: Vec<PathBuf>) -> Result<Filler<'_>, String> {
    let open = |dir: &PathBuf| {
        rustix::fs::open(dir, LOOK | OFlags::NOFOLLOW, Mode::empty()).map_err(|e| bad(dir, &e.into()))
    };
    let opened = dirs.iter().map(open).collect::<Result<_, _>>()?;
    Filler::begin(tree, dirs, opened)
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("ftvm-vol-{name}-{}", std::process::id()));
        let _ = remove_tree(&dir);
        std::fs::create_dir(&dir).unwrap();
        Dir(dir.canonicalize().unwrap())
    }
    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    fn place(&self, name: &str) -> Place {
        Place {
            run: self.at(name),
            to: None,
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = remove_tree(&self.0);
    }
}

fn volume(path: &Path) -> Volume {
    let path = path.as_os_str().as_bytes().to_vec();
    Volume {
        guest: path.clone(),
        host: path.clone(),
        now: path,
        read_only: false,
    }
}

/// An image that has these directories open.
fn image(volumes: &[Volume]) -> HostState {
    HostState {
        files: volumes
            .iter()
            .map(|v| FileRow {
                path: v.now.clone(),
                ..FileRow::default()
            })
            .collect(),
        ..HostState::default()
    }
}

fn all(volumes: &[Volume]) -> Vec<(&Volume, Policy)> {
    volumes.iter().map(|v| (v, Policy::Snapshot)).collect()
}

/// Writes a snapshot that holds them; `between` happens after they were copied ahead.
fn hold(to: &Path, volumes: &[Volume], between: impl FnOnce()) -> Result<(), String> {
    let mut file = File::create(to).unwrap();
    let mut out = ToFile::begin(1, true, &mut file)?;
    let (state, all) = (image(volumes), all(volumes));
    let mut copied = Copied::default();
    copied.ahead(&state, &all, &mut out)?;
    between();
    let tree = copied.hold(&state, &all, &mut out)?;
    out.set_volumes(super::super::states(&all), Some(tree));
    out.finish(&state, (0, 0)).map(drop)
}

fn give(from: &Path, place: &Place) -> Result<Map, String> {
    let chain = Opener::new(None).chain(from)?.chain;
    let given = unpack(&chain, place)?;
    assert_eq!(given.said, None);
    Map::load(&given.map)
}

/// What can be seen of a tree: by path, in words.
fn facts(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut out = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(rel) = left.pop() {
        let path = dir.join(&rel);
        let m = path.symlink_metadata().unwrap();
        let t = m.file_type();
        let (mut what, mut xattrs) = (String::new(), [0; 4096]);
        if t.is_dir() {
            left.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|e| rel.join(e.unwrap().file_name())),
            );
        } else if t.is_file() {
            what = format!("{} {}", m.len(), blake3::hash(&std::fs::read(&path).unwrap()));
        } else if t.is_symlink() {
            what = format!("{:?}", std::fs::read_link(&path).unwrap());
        }
        let n = rustix::fs::llistxattr(&path, &mut xattrs).unwrap_or(0);
        for name in xattrs[..n].split(|b| *b == 0).filter(|n| !n.is_empty()) {
            let mut value = [0; 4096];
            let n = rustix::fs::lgetxattr(&path, name, &mut value).unwrap();
            what += &format!(" {}={:?}", String::from_utf8_lossy(name), &value[..n]);
        }
        // A directory's links count its directories.
        let fact = format!(
            "{:o} {} {}:{} {}.{} {what}",
            m.mode(),
            m.nlink(),
            m.uid(),
            m.gid(),
            m.mtime(),
            m.mtime_nsec(),
        );
        out.insert(rel, fact);
    }
    out
}

fn same(a: &Path, b: &Path) {
    let (a, b) = (facts(a), facts(b));
    let names: Vec<_> = a.keys().chain(b.keys()).collect();
    for name in names {
        assert_eq!(a.get(name), b.get(name), "{name:?}");
    }
}

fn set_time(path: &Path, secs: u64) {
    let t = SystemTime::UNIX_EPOCH + Duration::new(secs, 987_654_321);
    let times = std::fs::FileTimes::new().set_modified(t).set_accessed(t);
    File::open(path).unwrap().set_times(times).unwrap();
}

/// Something of every kind.
fn fill_tree(a: &Path) {
    std::fs::create_dir_all(a.join("d/deep/er")).unwrap();
    std::fs::write(a.join("d/f"), vec![7; 10_001]).unwrap();
    std::fs::write(a.join("empty"), b"").unwrap();
    // Holes, with ends that are no pages.
    let sparse = File::create(a.join("sparse")).unwrap();
    sparse.write_all_at(b"begin", 3).unwrap();
    sparse.write_all_at(b"middle", (32 << 20) + 4095).unwrap();
    sparse.set_len((64 << 20) + 17).unwrap();
    std::fs::hard_link(a.join("d/f"), a.join("d/deep/link")).unwrap();
    symlink("../../../outside", a.join("d/up")).unwrap();
    symlink("/nowhere", a.join("d/deep/away")).unwrap();
    std::fs::hard_link(a.join("d/up"), a.join("up-too")).unwrap();
    let odd = OsStr::from_bytes(b"odd\n\xff \"name");
    std::fs::write(a.join(odd), b"x").unwrap();
    std::fs::write(a.join("n".repeat(255)), b"y").unwrap();
    let mode = Mode::from_raw_mode(0o620);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        a.join("fifo"),
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    drop(std::os::unix::net::UnixListener::bind(a.join("sock")).unwrap());
    for (path, mode) in [
        ("d/f", 0o4751),
        ("empty", 0o400),
        ("d/deep/er", 0o1555),
        ("d/deep", 0o500),
    ] {
        std::fs::set_permissions(a.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    rustix::fs::setxattr(a.join("sparse"), "user.k", b"v\0w", XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(a.join("d"), "user.dir", b"", XattrFlags::empty()).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(a.join("d/up"), Some(12), Some(34)).unwrap();
        std::os::unix::fs::chown(a.join("sparse"), Some(12), Some(34)).unwrap();
    }
    for (i, path) in ["sparse", "d/f", "d/deep/er", "d/deep", "d", ""]
        .iter()
        .enumerate()
    {
        set_time(&a.join(path), 1_000_000_000 + i as u64);
    }
}

#[test]
fn every_kind_of_file_comes_back() {
    let t = Dir::new("kinds");
    let (a, b) = (t.at("a"), t.at("b"));
    std::fs::create_dir(&a).unwrap();
    fill_tree(&a);
    std::fs::create_dir(&b).unwrap();
    std::fs::write(b.join("other"), b"volume").unwrap();
    std::fs::hard_link(a.join("d/f"), b.join("across")).unwrap();
    let volumes = [volume(&a), volume(&b), volume(&a.join("d"))];
    let meta = |p: &Path| std::fs::symlink_metadata(p).unwrap();
    let read = |dir: &str| {
        let of = ["", "sparse", "d", "d/f", "d/deep/er"].map(|p| {
            let m = meta(&t.at(dir).join(p));
            (m.atime(), m.atime_nsec())
        });
        of.to_vec()
    };
    let atimes = read("a");
    hold(&t.at("s"), &volumes, || {}).unwrap();
    let map = give(&t.at("s"), &t.place("run")).unwrap();
    // Reading left no trace.
    assert_eq!((read("a"), read("run/0")), (atimes.clone(), atimes));
    same(&t.at("run/0"), &a);
    same(&t.at("run/1"), &b);
    // The hole is one, and links are links, across volumes too.
    assert!(meta(&t.at("run/0/sparse")).blocks() < 1000);
    assert!(meta(&t.at("run/0/sock")).file_type().is_socket());
    let ino = |p: &str| meta(&t.at(p)).ino();
    assert_eq!(ino("run/0/d/f"), ino("run/0/d/deep/link"));
    assert_eq!(ino("run/0/d/f"), ino("run/1/across"));
    assert_eq!(ino("run/0/d/up"), ino("run/0/up-too"));
    // All is known by the numbers that it had.
    for (old, new) in [(&a, "run/0"), (&b, "run/1")] {
        for rel in facts(old).keys() {
            let (was, is) = (meta(&old.join(rel)), meta(&t.at(new).join(rel)));
            let path = t.at(new).join(rel).into_os_string().into_encoded_bytes();
            assert_eq!(
                map.id_at(&path, (is.dev(), is.ino())),
                (was.dev(), was.ino()),
                "{rel:?}"
            );
        }
    }
    let inner = a.join("d/f").into_os_string().into_encoded_bytes();
    assert_eq!(
        map.leads(&inner),
        Some(t.at("run/0/d/f").into_os_string().into_encoded_bytes())
    );
}

#[test]
fn what_changes_after_it_was_copied_is_copied_again() {
    let t = Dir::new("ahead");
    let a = t.at("a");
    std::fs::create_dir(&a).unwrap();
    for n in 0..40 {
        std::fs::write(a.join(format!("f{n}")), vec![n; 5000]).unwrap();
    }
    // Old enough for some of them to be used as they were copied.
    std::thread::sleep(Duration::from_millis(600));
    std::fs::write(a.join("young"), b"1").unwrap();
    hold(&t.at("s"), &[volume(&a)], || {
        std::fs::write(a.join("young"), b"2").unwrap();
        std::fs::remove_file(a.join("f0")).unwrap();
        std::fs::rename(a.join("f1"), a.join("f2")).unwrap();
        File::options()
            .write(true)
            .open(a.join("f3"))
            .unwrap()
            .set_len(4097)
            .unwrap();
        let f = File::options().write(true).open(a.join("f4")).unwrap();
        f.write_all_at(b"changed", 4093).unwrap();
        std::fs::write(a.join("new"), b"new").unwrap();
        std::fs::hard_link(a.join("f5"), a.join("g5")).unwrap();
        std::fs::set_permissions(a.join("f6"), std::fs::Permissions::from_mode(0o444)).unwrap();
    })
    .unwrap();
    give(&t.at("s"), &t.place("run")).unwrap();
    same(&t.at("run/0"), &a);
}

#[test]
fn nothing_that_is_there_is_touched() {
    let t = Dir::new("there");
    let a = t.at("a");
    std::fs::create_dir_all(a.join("sub")).unwrap();
    std::fs::write(a.join("f"), b"then").unwrap();
    hold(&t.at("s"), &[volume(&a)], || {}).unwrap();
    std::fs::write(a.join("f"), b"newer").unwrap();
    let to = |to: &str| Place {
        run: t.at("run"),
        to: Some(t.at(to)),
    };
    let back = Place {
        run: t.at("run"),
        to: Some("/".into()),
    };
    let why = give(&t.at("s"), &back).unwrap_err();
    assert!(why.contains("nothing is overwritten"), "{why}");
    assert_eq!(std::fs::read(a.join("f")).unwrap(), b"newer");
    assert!(!t.at("run").exists(), "what was begun is gone");
    give(&t.at("s"), &to("x")).unwrap();
    let there = t.at("x").join(a.strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(there.join("f")).unwrap(), b"then");
    // The run has its volumes already.
    let why = give(&t.at("s"), &to("y")).unwrap_err();
    assert!(why.contains("restored before"), "{why}");
    // An empty one may be filled.
    remove_tree(&t.at("run")).unwrap();
    remove_tree(&a).unwrap();
    std::fs::create_dir(&a).unwrap();
    give(&t.at("s"), &back).unwrap();
    assert_eq!(std::fs::read(a.join("f")).unwrap(), b"then");
}

#[test]
fn damage_leaves_nothing() {
    let t = Dir::new("damage");
    let a = t.at("a");
    std::fs::create_dir(&a).unwrap();
    let marked = *b"a page of a file in a volume....";
    std::fs::write(a.join("f"), marked.repeat(1000)).unwrap();
    std::fs::write(a.join("g"), b"another").unwrap();
    hold(&t.at("s"), &[volume(&a)], || {}).unwrap();
    let mut bytes = std::fs::read(t.at("s")).unwrap();
    // The last copy is the one that counts.
    let at = bytes.windows(32).rposition(|w| w == marked).unwrap();
    bytes[at] ^= 4;
    std::fs::write(t.at("s"), &bytes).unwrap();
    let why = give(&t.at("s"), &t.place("run")).unwrap_err();
    assert!(why.contains("of the volumes is damaged"), "{why}");
    assert!(!t.at("run").exists());
    let to = Place {
        run: t.at("run"),
        to: Some(t.at("x")),
    };
    assert!(give(&t.at("s"), &to).is_err());
    let there = t.at("x").join(a.strip_prefix("/").unwrap());
    assert!(!there.exists() && !t.at("run").exists());
}

fn node(kind: NodeKind) -> Node {
    let owner = std::fs::metadata("/proc/self").unwrap();
    Node {
        id: (1, 1),
        kind,
        mode: 0o700,
        owner: (owner.uid(), owner.gid()),
        atime: 0,
        mtime: 0,
        xattrs: Vec::new(),
    }
}

fn name(parent: u32, name: &str, node: u32) -> Name {
    Name {
        parent,
        name: name.into(),
        node,
    }
}

fn top(host: &str, root: u32) -> TreeTop {
    TreeTop {
        at: host.into(),
        host: host.into(),
        root,
    }
}

/// A tree that was checked cannot have them; should one be believed all the same, nothing is made outside.
#[test]
fn no_symlink_is_followed() {
    let t = Dir::new("links");
    let outside = t.at("outside");
    std::fs::create_dir(&outside).unwrap();
    let to = outside.as_os_str().as_bytes().to_vec();
    let tree = |names| Tree {
        tops: vec![top("/x", 0)],
        nodes: vec![
            node(NodeKind::Directory),
            node(NodeKind::Symlink(to.clone())),
            node(NodeKind::File { len: 3, first: 0 }),
            node(NodeKind::Directory),
        ],
        names,
    };
    let bad = [
        vec![name(0, "l", 1), name(1, "f", 2)],
        // The directory stands for the symlink of the same name.
        vec![name(0, "l", 1), name(0, "l", 3), name(3, "f", 2)],
    ];
    for (i, names) in bad.into_iter().enumerate() {
        let tree = tree(names);
        assert!(Tree::decode(&tree.encode()).is_err(), "{i}");
        let dir = t.at(&format!("to{i}"));
        std::fs::create_dir(&dir).unwrap();
        let filled = begun(&tree, vec![dir]);
        let done = filled.and_then(|mut f| f.pages(0, &[b'x'; PAGE as usize]));
        let left: Vec<_> = std::fs::read_dir(&outside).unwrap().collect();
        assert!(done.is_err() || left.is_empty(), "{i}");
        assert!(left.is_empty(), "{i}: {left:?}");
    }
}

#[test]
fn what_cannot_be_held_is_named() {
    let t = Dir::new("survey");
    let a = t.at("a");
    std::fs::create_dir(&a).unwrap();
    std::fs::write(a.join("f"), b"1234").unwrap();
    drop(std::os::unix::net::UnixListener::bind(a.join("sock")).unwrap());
    let volumes = [volume(&a)];
    let said = |state: &HostState| -> Vec<String> {
        super::super::hold::survey(state, &all(&volumes))
            .iter()
            .map(|n| n.json().to_string())
            .collect()
    };
    let text = said(&image(&volumes)).join("\n");
    assert!(
        text.contains("2 files of 4 bytes") && text.contains("held"),
        "{text}"
    );
    assert!(text.contains("1 are held as names"), "{text}");
    // The image has another directory than the one that is there now.
    let text = said(&HostState::default()).join("\n");
    assert!(
        text.contains("refused") && text.contains("moved or replaced"),
        "{text}"
    );
    assert!(hold(&t.at("s"), &[volume(&t.at("gone"))], || {}).is_err());
}

/// Names below a directory that has a longer path than a path can be.
#[test]
fn a_file_may_have_a_longer_path_than_a_path_can_be() {
    let t = Dir::new("long");
    let (a, deep) = (t.at("a"), "d".repeat(250));
    std::fs::create_dir(&a).unwrap();
    let down = |mut dir: OwnedFd, make: bool| {
        for _ in 0..16 {
            if make {
                rustix::fs::mkdirat(&dir, deep.as_str(), Mode::RWXU).unwrap();
            }
            dir = rustix::fs::openat(&dir, deep.as_str(), LOOK, Mode::empty()).unwrap();
        }
        dir
    };
    let open = |path: &Path| rustix::fs::open(path, LOOK, Mode::empty()).unwrap();
    let dir = down(open(&a), true);
    let long = "f".repeat(200);
    let flags = OFlags::RDWR | OFlags::CREATE;
    let file = |dir: &OwnedFd| File::from(rustix::fs::openat(dir, long.as_str(), flags, Mode::RUSR).unwrap());
    file(&dir).write_all_at(b"deep", 0).unwrap();
    // Its other name is as far down: by neither is it reached with one path.
    rustix::fs::linkat(&dir, long.as_str(), &dir, "g".repeat(200), AtFlags::empty()).unwrap();
    hold(&t.at("s"), &[volume(&a)], || {}).unwrap();
    give(&t.at("s"), &t.place("run")).unwrap();
    let mut found = [0; 5];
    let copy = down(open(&t.at("run/0")), false);
    assert_eq!(file(&copy).read_at(&mut found, 0).unwrap(), 4);
    assert_eq!(file(&copy).metadata().unwrap().nlink(), 2);
    assert_eq!(&found, b"deep\0");
    // A directory that a walk cannot name is said to be one.
    rustix::fs::mkdirat(&dir, long.as_str(), Mode::RWXU).unwrap_err();
    rustix::fs::mkdirat(&dir, "e".repeat(200).as_str(), Mode::RWXU).unwrap();
    let why = hold(&t.at("s"), &[volume(&a)], || {}).unwrap_err();
    assert!(why.contains("4096 bytes or more"), "{why}");
}

#[test]
fn what_no_image_has_had_is_taken_back() {
    let t = Dir::new("undo");
    let a = t.at("a");
    std::fs::create_dir(&a).unwrap();
    std::fs::write(a.join("f"), b"then").unwrap();
    std::fs::set_permissions(&a, std::fs::Permissions::from_mode(0o500)).unwrap();
    hold(&t.at("s"), &[volume(&a)], || {}).unwrap();
    let place = Place {
        run: t.at("run"),
        to: Some(t.at("x")),
    };
    let there = t.at("x").join(a.strip_prefix("/").unwrap());
    let facts = |mode: u32| {
        let m = std::fs::metadata(&there).unwrap();
        let names = std::fs::read_dir(&there).unwrap().count();
        assert_eq!((m.mode() & 0o7777, names), (mode, 0));
    };
    std::fs::create_dir_all(&there).unwrap();
    std::fs::set_permissions(&there, std::fs::Permissions::from_mode(0o1755)).unwrap();
    // While it is filled nobody else enters it.
    let made = make(&there).unwrap();
    facts(0o700);
    undo(&[made], &t.at("none"));
    facts(0o1755);
    for _ in 0..2 {
        let chain = Opener::new(None).chain(&t.at("s")).unwrap().chain;
        let given = unpack(&chain, &place).unwrap();
        assert_eq!(std::fs::read(there.join("f")).unwrap(), b"then");
        assert_eq!(std::fs::metadata(&there).unwrap().mode() & 0o7777, 0o500);
        given.undo();
        facts(0o1755);
        assert!(!t.at("run").exists());
    }
    std::fs::remove_dir(&there).unwrap();
    let chain = Opener::new(None).chain(&t.at("s")).unwrap().chain;
    unpack(&chain, &place).unwrap().undo();
    assert!(!there.exists() && there.parent().unwrap().exists());
    // Of a restore that was killed over it.
    let run = t.place("run");
    std::fs::create_dir_all(t.at("run/0/half")).unwrap();
    let why = give(&t.at("s"), &run).unwrap_err();
    assert!(why.contains("restored before"), "{why}");
    std::fs::write(t.at("run").join(UNFINISHED), b"").unwrap();
    give(&t.at("s"), &run).unwrap();
    same(&t.at("run/0"), &a);
    assert!(give(&t.at("s"), &run).is_err());
}

/// This thread is no longer root, if it was.
fn become_nobody() {
    // _LINUX_CAPABILITY_VERSION_3, this thread; no capabilities.
    let (head, none) = ([0x2008_0522u32, 0], [0u32; 6]);
    // SAFETY: both have the layout of the call's structures.
    let done = unsafe { libc::syscall(libc::SYS_capset, head.as_ptr(), none.as_ptr()) };
    assert_eq!(done, 0);
}

#[test]
fn a_program_does_not_run_with_rights_of_another_owner() {
    let t = Dir::new("setid");
    let (dir, mut theirs, mut ours) = (
        t.at("to"),
        node(NodeKind::File { len: 0, first: 0 }),
        node(NodeKind::File { len: 0, first: 0 }),
    );
    theirs.owner = (ours.owner.0 + 12, ours.owner.1 + 34);
    (theirs.mode, ours.mode) = (0o6755, 0o6755);
    let tree = Tree {
        tops: vec![top("/x", 0)],
        nodes: vec![node(NodeKind::Directory), theirs, ours],
        names: vec![name(0, "theirs", 1), name(0, "ours", 2)],
    };
    std::fs::create_dir(&dir).unwrap();
    let lost = std::thread::scope(|s| {
        let filled = s.spawn(|| {
            become_nobody();
            begun(&tree, vec![dir.clone()])
                .and_then(Filler::finish)
                .unwrap()
                .1
        });
        filled.join().unwrap()
    });
    let mode = |name: &str| std::fs::metadata(dir.join(name)).unwrap().mode() & 0o7777;
    assert_eq!(
        (lost.owners, mode("theirs"), mode("ours")),
        (1, 0o755, 0o6755),
        "{lost:?}"
    );
}

#[test]
fn volumes_that_would_be_in_one_directory_are_refused() {
    let t = Dir::new("one");
    let tree = |names| Tree {
        tops: vec![top("/a", 0), top("/a/sub", 1)],
        nodes: vec![
            node(NodeKind::Directory),
            node(NodeKind::Directory),
            node(NodeKind::Directory),
            node(NodeKind::File { len: 0, first: 0 }),
            node(NodeKind::Fifo),
        ],
        names,
    };
    let fill = |to: &str, names| -> Result<(), String> {
        let tree = tree(names);
        assert_eq!(tree, Tree::decode(&tree.encode())?);
        let dirs = vec![t.at(to), t.at(to).join("sub")];
        std::fs::create_dir_all(&dirs[1]).unwrap();
        begun(&tree, dirs)?.finish().map(drop)
    };
    // What was mounted there is in the directory that it was mounted on.
    let (inner, outer) = (name(1, "g", 4), name(2, "f", 3));
    fill("x", vec![name(0, "sub", 2), name(1, "f", 3), inner.clone()]).unwrap();
    assert!(t.at("x/sub/g").exists() && t.at("x/sub/f").exists());
    let why = fill("y", vec![name(0, "sub", 2), outer, inner]).unwrap_err();
    assert!(
        why.contains("two of its volumes") && why.contains("y/sub: "),
        "{why}"
    );
}

#[test]
fn the_inner_of_two_volumes_is_told_with_the_outer() {
    let t = Dir::new("inner");
    std::fs::create_dir_all(t.at("a/b")).unwrap();
    std::fs::write(t.at("a/b/f"), b"1234").unwrap();
    let volumes = [volume(&t.at("a/b")), volume(&t.at("a")), volume(&t.at("a"))];
    let said: Vec<String> = super::super::hold::survey(&image(&volumes), &all(&volumes))
        .iter()
        .map(|n| n.why.clone())
        .collect();
    let with = format!("in the snapshot, with {}", t.at("a").display());
    assert!(
        said.len() == 3 && said[0] == with && said[1].starts_with("2 files of 4 bytes") && said[2] == with,
        "{said:?}"
    );
}
