//! What a walk meets, and what it makes of that.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("ftvm-hold-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        Dir(dir.canonicalize().unwrap())
    }
    fn volume(&self, rel: &str, guest: &str) -> Volume {
        let now = self.0.join(rel).into_os_string().into_encoded_bytes();
        Volume {
            guest: guest.into(),
            host: now.clone(),
            now,
            read_only: false,
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Takes pages and forgets them.
struct Nowhere;

impl Sink for Nowhere {
    fn pages(&mut self, _: Object, first: u64, bytes: &[u8]) -> Result<(), String> {
        assert!(first + bytes.len() as u64 / PAGE <= MAX_PAGE);
        Ok(())
    }
    fn gone(&mut self, _: Object, _: u64, _: u64) -> Result<(), String> {
        Ok(())
    }
}

/// One walk: pages with contents, and what was found.
fn walk(copied: &mut Copied, v: &Volume) -> Result<(u64, Tree, Vec<String>), String> {
    let (ids, held) = (Map::default(), [v]);
    let mut sink = Nowhere;
    let mut walk = Walk::new(Some(&mut sink), BTreeSet::new(), copied, &ids, &held);
    walk.all(&[(&v.now, &v.host)])?;
    let said = walk.problems.into_iter().map(|p| p.note().json().to_string());
    Ok((walk.pages, walk.tree, said.collect()))
}

#[test]
fn contents_count_once_however_often_they_are_read() {
    let d = Dir::new("count");
    let (f, v) = (d.0.join("f"), d.volume("", "/v"));
    let mut copied = Copied::default();
    std::fs::write(d.0.join("g"), [1; 5000]).unwrap();
    std::fs::write(&f, [1; 9000]).unwrap();
    assert_eq!(walk(&mut copied, &v).unwrap().0, 5);
    for n in 0..4 {
        // Each time it has changed.
        std::fs::write(&f, [n; 9000]).unwrap();
        let (pages, tree, said) = walk(&mut copied, &v).unwrap();
        assert_eq!((pages, tree.end(), said), (5, 5, Vec::new()), "{n}");
    }
    // A larger one does not fit where it was.
    std::fs::write(&f, [2; 20000]).unwrap();
    let (pages, tree, _) = walk(&mut copied, &v).unwrap();
    assert_eq!((pages, tree.end()), (7, 10));
    std::fs::remove_file(&f).unwrap();
    assert_eq!(walk(&mut copied, &v).unwrap().0, 2);
}

#[test]
fn a_file_that_has_more_pages_than_there_are_numbers_is_named() {
    let d = Dir::new("large");
    let v = d.volume("", "/v");
    std::fs::write(d.0.join("one"), [1; 4096]).unwrap();
    let at = |next: u64| {
        let mut copied = Copied {
            next,
            ..Copied::default()
        };
        let (_, tree, said) = walk(&mut copied, &v).unwrap();
        (tree.end(), said.join("\n"))
    };
    assert_eq!(at(MAX_PAGE - 1), (MAX_PAGE, String::new()));
    std::fs::write(d.0.join("one"), [1; 4097]).unwrap();
    let (end, said) = at(MAX_PAGE - 1);
    let name = d.0.join("one").display().to_string();
    assert!(
        end == 0 && said.contains("refused") && said.contains(&name) && said.contains("128 TiB"),
        "{said}"
    );
}

#[test]
fn what_others_remove_meanwhile_is_gone_and_no_error() {
    let d = Dir::new("remove");
    let v = d.volume("", "/v");
    let over = AtomicBool::new(false);
    std::thread::scope(|s| {
        let others = s.spawn(|| {
            let at: Vec<PathBuf> = (0..8).map(|n| d.0.join(format!("n{n}"))).collect();
            while !over.load(Ordering::Relaxed) {
                for p in &at {
                    std::os::unix::fs::symlink("nowhere", p).unwrap();
                }
                for p in &at {
                    std::fs::remove_file(p).unwrap();
                    std::fs::write(p, b"a file").unwrap();
                }
                for p in &at {
                    std::fs::remove_file(p).unwrap();
                }
            }
        });
        let failed = (0..3000).find_map(|_| {
            let mut copied = Copied::default();
            let (_, tree, _) = match walk(&mut copied, &v) {
                Ok(found) => found,
                Err(why) => return Some(why),
            };
            // What no file of the tree has would be pages of nothing, which no restore takes.
            let has = |p: &Part| {
                tree.nodes
                    .iter()
                    .any(|n| matches!(n.kind, NodeKind::File { first, .. } if first == p.first))
            };
            let lost = copied.parts.values().any(|p| p.used && p.pages > 0 && !has(p));
            lost.then(|| "contents of no file".to_string())
        });
        over.store(true, Ordering::Relaxed);
        others.join().unwrap();
        assert_eq!(failed, None);
    });
}

#[test]
fn a_volume_that_a_walk_does_not_get_to_is_walked_for_itself() {
    let d = Dir::new("tops");
    std::fs::create_dir_all(d.0.join("state/run/volumes/0")).unwrap();
    std::fs::create_dir(d.0.join("in")).unwrap();
    let all = [
        d.volume("", "/a"),
        d.volume("in", "/b"),
        d.volume("state/run/volumes/0", "/c"),
    ];
    let held: Vec<&Volume> = all.iter().collect();
    let found = |own: &[&str]| -> Vec<usize> {
        let own = own.iter().map(|p| id(&rustix::fs::stat(d.0.join(p)).unwrap()));
        let tops = tops(&held, &own.collect()).unwrap();
        let at = |(at, _): &Begin<'_>| all.iter().position(|v| v.now == *at).unwrap();
        tops.iter().map(at).collect()
    };
    assert_eq!(found(&[]), [0]);
    assert_eq!(found(&["state"]), [0, 2]);
    assert_eq!(found(&["state/run"]), [0, 2]);
    // A file of that name beside it says nothing.
    assert_eq!(found(&["in", "state/run/volumes"]), [0, 1, 2]);
}

#[test]
fn a_mount_needs_a_volume_wherever_the_image_reaches_it() {
    let volume = |guest: &str, now: &str| Volume {
        guest: guest.into(),
        host: now.into(),
        now: now.into(),
        read_only: false,
    };
    let missing = |all: &[(&str, &str)], at: &str| -> Option<String> {
        let all: Vec<Volume> = all.iter().map(|(guest, now)| volume(guest, now)).collect();
        let held: Vec<&Volume> = all.iter().collect();
        uncovered(&held, at.as_bytes()).map(|(guest, _)| String::from_utf8(guest).unwrap())
    };
    let data = ("/data", "/srv");
    assert_eq!(missing(&[data], "/srv/m"), Some("/data/m".into()));
    assert_eq!(
        missing(&[data, ("/m", "/srv/m")], "/srv/m"),
        Some("/data/m".into())
    );
    assert_eq!(missing(&[data, ("/data/m", "/srv/m")], "/srv/m"), None);
    // It was mounted first, and the one around it over it.
    let over = missing(&[("/data/m", "/srv/m"), data], "/srv/m");
    assert_eq!(over, Some("/data/m".into()));
    // Each way counts.
    let two = [data, ("/too", "/srv"), ("/data/m", "/srv/m")];
    assert_eq!(missing(&two, "/srv/m"), Some("/too/m".into()));
    // The root is there before all others.
    assert_eq!(missing(&[("/m", "/srv/m"), ("/", "/srv")], "/srv/m"), None);
    assert_eq!(missing(&[("/", "/srv")], "/srv/m"), Some("/m".into()));
}

/// Every host has a file system in another one.
#[test]
fn a_mount_in_a_held_directory_is_named() {
    let volume = |guest: &str, now: &str| Volume {
        guest: guest.into(),
        host: now.into(),
        now: now.into(),
        read_only: false,
    };
    let refused = |all: &[Volume]| -> Vec<String> {
        let held: Vec<&Volume> = all.iter().collect();
        let (ids, mut copied) = (Map::default(), Copied::default());
        let tops = tops(&held, &BTreeSet::new()).unwrap();
        let mut walk = Walk::new(None, BTreeSet::new(), &mut copied, &ids, &held);
        walk.all(&tops).unwrap();
        let mounts = walk.problems.into_iter().filter(|p| p.kind == "mount");
        mounts
            .map(|p| p.note())
            .filter(|n| n.name == "/dev/shm")
            .map(|n| n.why)
            .collect()
    };
    let dev = volume("/d", "/dev");
    let alone = refused(std::slice::from_ref(&dev));
    assert!(
        alone.len() == 1 && alone[0].contains("(-v /dev/shm:/d/shm), or write --volumes /d=share"),
        "{alone:?}"
    );
    assert_eq!(refused(&[dev.clone(), volume("/s", "/dev/shm")]), alone);
    assert_eq!(refused(&[dev, volume("/d/shm", "/dev/shm")]), [""; 0]);
}
