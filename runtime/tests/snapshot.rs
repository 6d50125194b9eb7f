//! `ftvm snapshot` from outside: what it prints, exit codes, the page store.

use ftl_core::snap::{Snapshot, forge};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Output};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("ftvm-snap-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        // A chain in two files, and the passphrase of others.
        let full = forge::sample(false, None);
        let root = *Snapshot::open(Box::new(full.clone())).unwrap().root();
        std::fs::write(dir.join("a.ftsnap"), full).unwrap();
        std::fs::write(dir.join("b.ftsnap"), forge::sample(false, Some(root))).unwrap();
        std::fs::write(dir.join("words"), "correct horse\n").unwrap();
        Place(dir)
    }

    fn ftvm(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ftvm"))
            .arg("snapshot")
            .args(args)
            .current_dir(&self.0)
            .env("XDG_DATA_HOME", self.0.join("data"))
            .output()
            .unwrap()
    }

    fn good(&self, args: &[&str]) -> String {
        let out = self.ftvm(args);
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!((out.status.code(), err.as_ref()), (Some(0), ""), "{args:?}");
        String::from_utf8(out.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.good(args)).unwrap()
    }

    /// Exit code and one line on stderr with these words.
    fn refused(&self, args: &[&str], code: i32, words: &str) {
        let out = self.ftvm(args);
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
        assert!(
            err.starts_with("ftvm: ") && err.lines().count() == 1,
            "{args:?}: {err}"
        );
        assert!(out.stdout.is_empty());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_snapshot_tells_what_it_is() {
    let p = Place::new("inspect");
    let text = p.good(&["inspect", "b.ftsnap"]);
    for words in [
        "parent    ",
        "image     000000000000002a",
        "another build",
        "process 1",
        "1 opaque",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let v = p.json(&["inspect", "--json", "a.ftsnap"]);
    assert_eq!(
        (&v["version"], &v["pages"], &v["ftvm"]),
        (&1.into(), &7.into(), &"0.1.0".into())
    );
    assert_eq!(
        (&v["parent"], &v["encrypted"]),
        (&serde_json::Value::Null, &false.into())
    );
    p.refused(&["inspect", "words"], 3, "not a snapshot");
    p.refused(&["inspect", "none.ftsnap"], 3, "none.ftsnap");
}

#[test]
fn damage_and_missing_parents_are_refused() {
    let p = Place::new("verify");
    assert_eq!(p.good(&["verify", "b.ftsnap"]).lines().count(), 2);
    assert_eq!(
        p.json(&["verify", "--json", "b.ftsnap"])["layers"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    std::fs::create_dir(p.0.join("away")).unwrap();
    std::fs::rename(p.0.join("a.ftsnap"), p.0.join("away/a.ftsnap")).unwrap();
    p.refused(&["verify", "b.ftsnap"], 3, "its parent");
    p.good(&["verify", "--alone", "b.ftsnap"]);
    p.good(&["verify", "--parent", "away/a.ftsnap", "b.ftsnap"]);
    let mut bytes = std::fs::read(p.0.join("b.ftsnap")).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(p.0.join("b.ftsnap"), &bytes).unwrap();
    p.refused(
        &["verify", "--alone", "b.ftsnap"],
        3,
        "page 0x0 of the arena is damaged",
    );
    std::fs::write(p.0.join("b.ftsnap"), &bytes[..9000]).unwrap();
    p.refused(&["verify", "--alone", "b.ftsnap"], 3, "cut off");
}

#[test]
fn chains_are_squashed_and_encrypted() {
    let p = Place::new("squash");
    p.good(&["squash", "-o", "c.ftsnap", "b.ftsnap"]);
    let mode = std::fs::metadata(p.0.join("c.ftsnap"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let v = p.json(&["inspect", "--json", "c.ftsnap"]);
    assert_eq!(v["parent"], serde_json::Value::Null);
    assert_eq!(
        v["stands_for"],
        p.json(&["inspect", "--json", "b.ftsnap"])["root"]
    );
    let made = p.json(&[
        "squash",
        "--json",
        "--compress",
        "--encrypt",
        "words",
        "-o",
        "d.ftsnap",
        "c.ftsnap",
    ]);
    assert_eq!(made["root"], v["root"], "kept in another way, the same snapshot");
    let header_only = p.json(&["inspect", "--json", "d.ftsnap"]);
    assert_eq!(
        (&header_only["encrypted"], header_only.get("pages")),
        (&true.into(), None)
    );
    p.refused(&["verify", "d.ftsnap"], 3, "encrypted");
    p.good(&["verify", "--passphrase-file", "words", "d.ftsnap"]);
    std::fs::write(p.0.join("words"), "incorrect horse").unwrap();
    p.refused(
        &["verify", "--passphrase-file", "words", "d.ftsnap"],
        3,
        "passphrase is wrong",
    );
    p.refused(
        &["add", "--passphrase-file", "words", "d.ftsnap"],
        1,
        "passphrase is wrong",
    );
    p.refused(&["squash", "-o", "none/x", "b.ftsnap"], 1, "none/x");
}

#[test]
fn the_store_keeps_what_is_named() {
    let p = Place::new("store");
    let first = p.json(&["add", "--json", "a.ftsnap"]);
    // Four different pages.
    assert_eq!((&first["pages"], &first["new_pages"]), (&7.into(), &4.into()));
    let second = p.json(&["add", "--json", "b.ftsnap"]);
    assert_eq!(second["new_pages"], 0);
    let root = second["root"].as_str().unwrap();
    assert_eq!(
        p.json(&["ls", "--json"])["snapshots"].as_array().unwrap().len(),
        2
    );
    assert_eq!(p.good(&["ls"]).lines().count(), 3);
    // By its first digits, and from the store as a file again.
    p.good(&["verify", &root[..12]]);
    let back = p.json(&["squash", "--json", "-o", "back.ftsnap", &root[..12]]);
    assert_eq!(back["root"], root);
    p.good(&["verify", "back.ftsnap"]);
    p.good(&["rm", &first["root"].as_str().unwrap()[..12]]);
    assert_eq!(p.json(&["gc", "--json"])["removed"], 0);
    p.good(&["rm", root]);
    assert_eq!(p.json(&["gc", "--json", "--dry-run"])["removed"], 4);
    assert_eq!(p.json(&["gc", "--json"])["removed"], 4);
    assert_eq!(p.json(&["gc", "--json"])["pages"], 0);
    p.refused(&["rm", root], 1, "no snapshot");
}
