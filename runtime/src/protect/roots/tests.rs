use super::*;
use ftl_images::MEDIA_MANIFEST;
use std::path::PathBuf;

/// What a primary answers when it is asked for a blob: `from` may be where it begins, or elsewhere.
struct Answer {
    head: Value,
    pieces: Vec<Vec<u8>>,
}

/// A backup's side of a link that works, with a primary that has these answers. Returns what the primary was asked.
fn with_primary<T>(answers: Vec<Answer>, backup: impl FnOnce(&mut Link) -> T) -> (T, Vec<Value>) {
    let listener = link::Listener::bind("127.0.0.1:0", Security::Insecure).expect("bound");
    let at = listener.local().expect("known").to_string();
    let primary = std::thread::spawn(move || {
        let mut link = link::connect_saying(&at, &[], &Security::Insecure, PATIENCE).expect("connected");
        let mut asked = Vec::new();
        for a in answers {
            let Ok(m) = receive_any(&mut link) else { break };
            asked.push(m);
            // A backup that refuses what comes has gone.
            let _ = send(&mut link, Kind::Blob, a.head.to_string().as_bytes());
            for p in a.pieces {
                let _ = send(&mut link, Kind::Data, &p);
            }
        }
        let _ = link.drain(PATIENCE);
        asked
    });
    let (mut link, _) = listener.accept().expect("accepted");
    link.handshake(PATIENCE).expect("known");
    let done = backup(&mut link);
    drop(link);
    (done, primary.join().expect("no panic"))
}

/// The next question; that work goes on is none.
fn receive_any(link: &mut Link) -> Result<Value, String> {
    loop {
        match receive(link)? {
            (Kind::Busy, _) => {}
            (_, m) => return parsed(&m),
        }
    }
}

fn store(name: &str) -> (Store, PathBuf) {
    let dir = std::env::temp_dir().join(format!("ftl-roots-{name}-{}", std::process::id()));
    (Store::open_at(&dir).expect("a store"), dir)
}

#[test]
fn a_blob_is_kept_if_it_is_the_one_that_was_asked_for() {
    let (store, dir) = store("kept");
    let bytes = b"the bytes of a layer".to_vec();
    let blob = Blob {
        media: "application/vnd.oci.image.layer.v1.tar".to_string(),
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
    };
    let head = |from: usize| json!({"media": blob.media, "size": blob.size, "from": from});
    let answer = |from: usize, pieces: &[&[u8]]| Answer {
        head: head(from),
        pieces: pieces.iter().map(|p| p.to_vec()).collect(),
    };
    let take = |a: Answer| with_primary(vec![a], |link| large(link, &store, &blob));
    // Another size, another part, too much, nothing: refused, and what had come is no blob.
    let mut other = answer(0, &[&bytes]);
    let long = [bytes.as_slice(), b"x"].concat();
    other.head["size"] = json!(blob.size + 1);
    for (a, says) in [
        (other, "another size"),
        (answer(3, &[&bytes[3..]]), "another part"),
        (answer(0, &[&long]), "does not belong here"),
        (answer(0, &[b""]), "does not belong here"),
    ] {
        let (done, _) = take(a);
        assert!(done.as_ref().is_err_and(|e| e.contains(says)), "{says}: {done:?}");
        assert!(!store.has(&blob));
    }
    // Other bytes of the same length are thrown away whole.
    let (done, _) = take(answer(0, &[&[b'-'; 20]]));
    assert!(done.is_err_and(|e| e.contains("thrown away")) && !store.has(&blob));
    // A link that breaks is gone on with where it was.
    let (done, _) = take(answer(0, &[&bytes[..7]]));
    assert!(done.is_err() && !store.has(&blob));
    let (done, asked) = take(answer(7, &[&bytes[7..9], &bytes[9..]]));
    assert_eq!((done, asked[0]["from"].as_u64()), (Ok(()), Some(7)));
    assert!(store.has(&blob));
    // What is here is not asked for.
    let (done, asked) = with_primary(Vec::new(), |link| large(link, &store, &blob));
    assert_eq!((done, asked.len()), (Ok(()), 0));
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
fn a_manifest_has_its_digest_and_a_bound() {
    let (store, dir) = store("manifest");
    let digest = Digest::of(b"{}");
    let take = |size: u64, bytes: &[u8]| {
        let head = json!({"media": MEDIA_MANIFEST, "size": size, "from": 0});
        let pieces = vec![bytes.to_vec()];
        with_primary(vec![Answer { head, pieces }], |link| small(link, &store, &digest)).0
    };
    assert!(take(MAX_MANIFEST + 1, b"{}").is_err_and(|e| e.contains("a manifest of more than")));
    assert!(take(2, b"[]").is_err_and(|e| e.contains("its bytes are")));
    assert_eq!(take(2, b"{}").map(|b| b.digest), Ok(digest));
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
fn a_name_that_means_another_image_stays_with_it() {
    let (store, dir) = store("names");
    let put = |text: &str| store.put(MEDIA_MANIFEST, text.as_bytes()).expect("put");
    let (old, new, third) = (put("old"), put("new"), put("third"));
    let kv = Reference::parse("h.example/kv:1").expect("a name");
    store.tag(&kv, &old).expect("tagged");
    keep(&store, &kv, &new).expect("kept");
    keep(&store, &kv, &third).expect("kept");
    keep(&store, &kv, &old).expect("kept");
    for blob in [&old, &new, &third] {
        assert_eq!(
            store.find(&blob.digest.to_string()).map(|f| f.1),
            Ok(blob.clone())
        );
    }
    assert_eq!(store.find("h.example/kv:1").map(|f| f.1), Ok(old));
    assert_eq!(store.list().map(|l| l.len()), Ok(3));
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
fn the_image_hears_of_the_agent_that_it_asked_for() {
    let (ours, theirs) = channel().expect("a channel");
    let mut c = Client::new(ours, 7);
    let second = 1_000_000_000;
    assert_eq!(c.look("a:1", 0), At::Coming);
    answer(&theirs, "b:1", Ok(()));
    answer(&theirs, "a:1", Err("full".to_string()));
    assert_eq!(c.look("a:1", second), At::Failed("full".to_string()));
    assert_eq!(c.look("a:1", second), At::Coming, "asked again");
    answer(&theirs, "a:1", Ok(()));
    assert_eq!(c.look("a:1", 2 * second), At::Here);
    assert_eq!(
        c.look("b:1", 2 * second),
        At::Coming,
        "another one has not got it"
    );
    c.forget();
    assert_eq!(c.look("a:1", 3 * second), At::Coming);
    assert_eq!(read_answer(&[1, 9, 0, b'x']), None);
}

#[test]
fn kinds_and_knocks_read_back() {
    for byte in 0..=255u8 {
        assert!(Kind::of(byte).is_none_or(|k| k as u8 == byte));
    }
    assert!(knocked(&knock()) && !knocked(&super::super::knock(7)) && !tree::knocked(&knock()));
    assert_eq!(super::super::knocked(&knock()), None);
    assert_eq!(crate::migrate::knocked(&knock()), None);
}

#[test]
fn whoever_takes_a_root_reaches_its_store_and_nothing_else() {
    let (store, dir) = store("confined");
    let secret = dir.with_extension("secret");
    std::fs::write(&secret, "x").expect("written");
    let path = secret.clone();
    // It holds for the thread, and goes with it.
    let seen = std::thread::spawn(move || {
        confine(store.dir()).expect("confined");
        let put = store.put(MEDIA_MANIFEST, b"{}").map(drop);
        (
            put,
            std::fs::read(&path).is_err(),
            std::fs::write(&path, "y").is_err(),
        )
    });
    let (put, unread, unwritten) = seen.join().expect("no panic");
    assert_eq!(put, Ok(()));
    // SAFETY: asks for a number.
    let known = unsafe { sys!(libc::SYS_landlock_create_ruleset, 0, 0, 1) };
    match known {
        Ok(2..) => assert!(unread && unwritten, "a file outside"),
        _ => eprintln!("this kernel has no landlock that serves"),
    }
    let _ = std::fs::remove_dir_all(dir);
    let _ = std::fs::remove_file(secret);
}
