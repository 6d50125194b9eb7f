//! Builds that meet each other, and programs that this host cannot complete.

use super::*;
use crate::store::tests::{Place, image, name};

fn plan<'a>(from: &'a Path, include: &'a [PathBuf]) -> Plan<'a> {
    Plan {
        from,
        app: App {
            version: crate::config::VERSION,
            command: vec!["/x".to_string()],
            ..App::default()
        },
        include,
        compression: Compression::None,
    }
}

#[test]
fn a_build_from_an_archive_gives_its_source_no_name() {
    let p = Place::new();
    let store = p.store();
    let [source, ..] = image(&store, "layer", false);
    let file = p.0.join("saved.tar");
    let opened = Image::open(&store, &source).expect("an image");
    archive::save(&store, &opened, None, std::fs::File::create(&file).expect("made")).expect("saved");
    // What two builds at once would both want is another's.
    let taken = name("localhost/ftvm-build:source");
    store.tag(&taken, &source).expect("tagged");
    let built = build(&store, &plan(&file, &[]), &name("h.example/built:1")).expect("built");
    let names: Vec<_> = store
        .list()
        .expect("listed")
        .into_iter()
        .filter_map(|e| e.name)
        .collect();
    assert_eq!(names, ["h.example/built:1", "localhost/ftvm-build:source"]);
    // A build that fails has named nothing either.
    let missing = [p.0.join("nothing")];
    assert!(build(&store, &plan(&file, &missing), &name("h.example/built:2")).is_err());
    assert_eq!(store.list().expect("listed").len(), 2);
    assert!(Image::open(&store, &built.blob).is_ok_and(|i| i.layers.len() == 1));
}

#[test]
fn an_included_program_without_its_libraries_is_refused() {
    let p = Place::new();
    let store = p.store();
    let sh = std::fs::canonicalize("/bin/sh").expect("a shell");
    let mut bytes = std::fs::read(&sh).expect("read");
    // The same shell, which wants a library that no host has.
    let at = bytes
        .windows(10)
        .position(|w| w == b"libc.so.6\0")
        .expect("it needs the C library");
    bytes[at..at + 9].copy_from_slice(b"libX.so.6");
    let odd = p.0.join("odd");
    std::fs::write(&odd, &bytes).expect("written");
    let tree = p.0.join("tree");
    std::fs::create_dir(&tree).expect("made");
    let (as_program, as_more) = ([], [odd.clone()]);
    for (from, include) in [
        (&odd, &as_program[..]),
        (&tree, &as_more[..]),
        (&sh, &as_more[..]),
    ] {
        let why = build(&store, &plan(from, include), &name("h.example/x:1"))
            .err()
            .expect("refused");
        assert!(
            why.contains("libraries that are not on this host: libX.so.6"),
            "{why}"
        );
    }
    assert!(build(&store, &plan(&tree, &[sh]), &name("h.example/x:1")).is_ok());
}

#[test]
fn a_library_that_a_program_of_a_directory_lacks_is_told() {
    let p = Place::new();
    let store = p.store();
    let sh = std::fs::canonicalize("/bin/sh").expect("a shell");
    let tree = p.0.join("tree");
    std::fs::create_dir_all(tree.join("bin")).expect("made");
    std::fs::copy(&sh, tree.join("bin/sh")).expect("copied");
    let told = |include: &[PathBuf]| {
        let built = build(&store, &plan(&tree, include), &name("h.example/x:1")).expect("built");
        built
            .notes
            .iter()
            .filter(|n| n.contains("/bin/sh: asks for libc.so.6, which is not in the image"))
            .count()
    };
    assert_eq!(told(&[]), 1);
    // Its own libraries come along with it.
    assert_eq!(told(&[sh]), 0);
}
