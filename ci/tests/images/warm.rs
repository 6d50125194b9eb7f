//! Images with a snapshot of the started application.

use std::fs;
use std::path::Path;

use crate::host::{Done, Host, free_port, io, same, up};

/// Prints "up" once it listens. `/ready`; `/random` has eight bytes of the kernel's; `/clock` its time in ms; `/seen` the requests
/// so far; `/file` what was written when it started.
const SERVER: &str = "const fs = require('fs'), http = require('http');\n\
    const port = Number(process.argv[2]);\n\
    let seen = 0;\n\
    fs.writeFileSync('/tmp/start', String(process.pid));\n\
    const random = () => { const f = fs.openSync('/dev/urandom'), b = Buffer.alloc(8); fs.readSync(f, b); fs.closeSync(f); return b.toString('hex'); };\n\
    const say = { '/ready': () => 'ready', '/random': random, '/clock': () => String(Date.now()), '/seen': () => String(seen),\n\
      '/file': () => fs.readFileSync('/tmp/start', 'utf8'), '/env': () => process.env.A || 'none' };\n\
    http.createServer((q, r) => { seen++; r.setHeader('Connection', 'close'); r.end(say[q.url]()); }).listen(port, '127.0.0.1', () => console.log('up'));\n";

/// Writes ftvm.toml and the server, and returns the arguments that build it at this name.
fn plan(h: &Host, name: &str, port: u16) -> Done<Vec<String>> {
    let node = h.ask("sh", &["-c", "readlink -f $(command -v node)"])?.good()?;
    let script = h.cwd().join("server.js");
    io(fs::write(&script, SERVER))?;
    let script = script.display().to_string();
    h.write(
        "node.toml",
        &format!("version = 1\ncommand = [\"{node}\", \"{script}\", \"{port}\"]\n"),
    )?;
    let words = [
        "image",
        "build",
        "-f",
        "node.toml",
        "--compress",
        "zstd",
        "--from",
        &node,
        "--include",
        &script,
        "-t",
        name,
    ];
    Ok(words.map(str::to_string).to_vec())
}

fn ask(h: &Host, port: u16, path: &str) -> Done<String> {
    h.ask("curl", &["-s", "-S", &format!("http://127.0.0.1:{port}{path}")])?
        .good()
}

fn log(h: &Host, name: &str) -> Done<String> {
    h.ftvm(&["logs", name])?.good()
}

fn words(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// Warmed, signed, pushed, pulled into another store, and started there: what it prints at its start it does not print again.
/// Each start has random numbers and the time of its own.
pub fn node() -> Done {
    let mut h = Host::new()?;
    let r = h.registry()?;
    let port = free_port()?;
    let name = format!("{r}/web:1");
    let mut build = plan(&h, &name, port)?;
    build.extend(["--warm-until".into(), format!("http :{port}/ready")]);
    let digest = h.ftvm(&words(&build))?.good()?;
    h.ftvm(&["image", "keygen", "-o", "key"])?.good()?;
    h.ftvm(&["image", "sign", "-k", "key", &name])?.good()?;
    h.ftvm(&["image", "push", &name])?.good()?;
    h.elsewhere();
    same(
        "pulled",
        h.ftvm(&["image", "pull", "--verify-key", "key.pub", &name])?
            .good()?,
        digest.clone(),
    )?;
    let listed = h.ftvm(&["image", "ls"])?.good()?;
    if !listed.ends_with("signed  warm") {
        return Err(format!("listed as {listed:?}"));
    }
    let mut randoms = Vec::new();
    for n in ["w1", "w2"] {
        h.detached(&[
            "run",
            "-d",
            "--name",
            n,
            "--verify-key",
            "key.pub",
            "--image",
            &name,
        ])?;
        up(port)?;
        // One request was the builder's.
        same("requests", ask(&h, port, "/seen")?, "2".into())?;
        randoms.push(ask(&h, port, "/random")?);
        let there: u128 = ask(&h, port, "/clock")?.parse().map_err(|_| "no time")?;
        let here = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        if here.as_millis().abs_diff(there) > 60_000 {
            return Err(format!("its clock shows {there}, ours {}", here.as_millis()));
        }
        same("printed", log(&h, n)?, String::new())?;
        if n == "w1" {
            h.ftvm(&["stop", n])?.good()?;
        }
    }
    if randoms[0] == randoms[1] || randoms[0].len() != 16 {
        return Err(format!("random numbers {randoms:?}"));
    }
    // Its port is taken: another one is found, and told.
    let told = h.detached(&["run", "-d", "--name", "w3", "--image", &name])?;
    let moved = format!("127.0.0.1:{port} is in use: it is port ");
    let other = told
        .split(&moved)
        .nth(1)
        .and_then(|t| t.split(' ').next())
        .and_then(|t| t.parse().ok());
    match other {
        Some(other) => {
            up(other)?;
            same("requests of the third", ask(&h, other, "/seen")?, "2".into())?;
        }
        None => return Err(format!("no other port was told: {told:?}")),
    }
    h.ftvm(&["rm", "--force", "w2", "w3"])?.good()?;
    // Started again: on what it had written, from the beginning.
    let told = h.detached(&["start", "w1"])?;
    up(port)?;
    same("requests after a start", ask(&h, port, "/seen")?, "1".into())?;
    let printed = log(&h, "w1")?;
    if !told.contains("files of its own") || !printed.contains("up") {
        return Err(format!("started again it told {told:?} and printed {printed:?}"));
    }
    h.ftvm(&["rm", "--force", "w1"])?.good().map(drop)
}

/// What keeps the snapshot from being used is said; and what it is, where it goes and comes.
pub fn choice() -> Done {
    let mut h = Host::new()?;
    let port = free_port()?;
    let mut build = plan(&h, "web:1", port)?;
    build.extend(["--warm-until".into(), "log up".into()]);
    let digest = h.ftvm(&words(&build))?.good()?;
    let cold = |h: &Host, args: &[&str], why: &str| -> Done {
        let told = h.detached(&[&["run", "-d", "--rm", "--name", "c"], args].concat())?;
        up(port)?;
        // It prints once it listens: before it answers.
        ask(h, port, "/ready")?;
        let printed = log(h, "c")?;
        h.ftvm(&["rm", "--force", "c"])?.good()?;
        match printed == "up" && told.contains(why) && told.contains("a cold start") != why.is_empty() {
            true => Ok(()),
            false => Err(format!("{args:?}: told {told:?}, printed {printed:?}")),
        }
    };
    cold(&h, &["--cold", "--image", "web:1"], "")?;
    cold(
        &h,
        &["-e", "A=1", "--image", "web:1"],
        "-e would have to be known at its start",
    )?;
    cold(&h, &["--image", &digest], "the digest does not cover it")?;
    h.ftvm(&["image", "keygen", "-o", "key"])?.good()?;
    // Only the image is signed: another tool's signature, or one from before it was warm.
    h.ftvm(&["image", "sign", "-k", "key", "web:1"])?.good()?;
    h.ftvm(&["image", "warm", "--warm-until", &format!("tcp :{port}"), "web:1"])?
        .good()?;
    cold(
        &h,
        &["--verify-key", "key.pub", "--image", "web:1"],
        "has no signature here",
    )?;
    let warm = |h: &Host| -> Done {
        h.detached(&["run", "-d", "--rm", "--name", "c", "--image", "web:1"])?;
        up(port)?;
        same("requests", ask(h, port, "/seen")?, "1".into())?;
        let told = log(h, "c")?;
        h.ftvm(&["rm", "--force", "c"])?.good()?;
        same("printed", told, String::new())
    };
    warm(&h)?;
    let shown = h.ftvm(&["image", "inspect", "web:1"])?.good()?;
    // The newer took the place of the older.
    same(
        "snapshots",
        shown.matches("org.ftlinux.snapshot.until").count(),
        1,
    )?;
    if !shown.contains(&format!("\"org.ftlinux.snapshot.until\": \"tcp :{port}\"")) {
        return Err(format!("inspect shows {shown}"));
    }
    // A file carries it.
    h.ftvm(&["image", "save", "-o", "web.tar", "web:1"])?.good()?;
    h.elsewhere();
    h.ftvm(&["image", "load", "-i", "web.tar"])?.good()?;
    warm(&h)?;
    // Damaged behind our back, where it is not ready yet: said, and not used.
    io(fs::remove_dir_all(h.data.join("ftvm/images/warm")))?;
    let artifact = largest_blob_of(&h, &shown)?;
    let mut bytes = io(fs::read(&artifact))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    io(fs::write(&artifact, bytes))?;
    cold(&h, &["--image", "web:1"], "a cold start")?;
    // Another build of ftvm has taken it.
    h.back();
    rebuilt(&h)?;
    cold(&h, &["--image", "web:1"], "another build of ftvm")?;
    h.ftvm(&["image", "rm", "web:1"])?.good()?;
    let left = io(fs::read_dir(h.data.join("ftvm/images/blobs/sha256")))?.count();
    same("blobs that are left", left, 0)
}

/// File of the snapshot that `inspect` shows.
fn largest_blob_of(h: &Host, shown: &str) -> Done<std::path::PathBuf> {
    let at = shown.find("\"org.ftlinux.snapshot.use\"").ok_or("no snapshot")?;
    let digest = shown[at..]
        .split("\"digest\": \"sha256:")
        .nth(1)
        .and_then(|t| t.get(..64))
        .ok_or("no digest")?;
    let blobs = h.data.join("ftvm/images/blobs/sha256");
    let manifest = io(fs::read_to_string(blobs.join(digest)))?;
    let layers = manifest.split("\"layers\":").nth(1).ok_or("no layer")?;
    let layer = layers
        .split("sha256:")
        .nth(1)
        .and_then(|t| t.get(..64))
        .ok_or("no layer")?;
    Ok(blobs.join(layer))
}

/// The snapshots of the store say that another build took them.
fn rebuilt(h: &Host) -> Done {
    let dir = h.data.join("ftvm/images");
    let mut index = io(fs::read_to_string(dir.join("index.json")))?;
    for entry in io(fs::read_dir(dir.join("blobs/sha256")))?.flatten() {
        let Ok(text) = fs::read_to_string(entry.path()) else {
            continue;
        };
        let Some(at) = text.find("\"org.ftlinux.build\":\"") else {
            continue;
        };
        let at = at + "\"org.ftlinux.build\":\"".len();
        let mut other = text.clone();
        other.replace_range(
            at..at + 4,
            if text[at..].starts_with("0000") {
                "1111"
            } else {
                "0000"
            },
        );
        let old = entry.file_name().to_string_lossy().into_owned();
        let made = h.cwd().join("other");
        io(fs::write(&made, &other))?;
        let sum = h.ask("sha256sum", &[&made.display().to_string()])?.good()?;
        let new = sum.get(..64).ok_or("no digest")?;
        io(fs::rename(&made, dir.join("blobs/sha256").join(new)))?;
        index = index.replace(&old, new);
    }
    io(fs::write(dir.join("index.json"), index))
}

/// A program that does not become warm, or cannot be: said, with what it printed; nothing runs on.
pub fn refused() -> Done {
    let h = Host::new()?;
    let build_within = |limit: &str, toml: &str, until: &str, why: &str| -> Done {
        h.write("a.toml", &format!("version = 1\n{toml}"))?;
        h.ftvm(&[
            "image",
            "build",
            "-f",
            "a.toml",
            "--from",
            "/usr/bin/dash",
            "-t",
            "a:1",
            "--warm-until",
            until,
            "--warm-timeout",
            limit,
        ])?
        .refused(1, why)?;
        same("runs", h.ftvm(&["ps", "-a"])?.good()?.lines().count(), 1)?;
        let left = io(fs::read_dir(h.data.join("ftvm/images/ingest")))?.count();
        same("in ingest", left, 0)
    };
    let build = |toml: &str, until: &str, why: &str| build_within("60s", toml, until, why);
    let command = |text: &str| format!("command = [\"/usr/bin/dash\", \"-c\", \"{text}\"]\n");
    build(
        &command("echo it has no port; exit 3"),
        "tcp :1",
        "it has no port",
    )?;
    build_within(
        "2s",
        &command("echo it waits; while :; do read x < /dev/zero; done"),
        "log ready",
        "not warm within 2 s (log ready)",
    )?;
    let taken = io(std::net::TcpListener::bind(("127.0.0.1", 0)))?;
    let port = io(taken.local_addr())?.port();
    build(
        &command("exit 0"),
        &format!("tcp :{port}"),
        "somebody listens on port",
    )?;
    let own = "[network]\nmode = \"own\"\ninterface = \"eth0\"\nip = [\"192.0.2.1/24\"]\n";
    build(
        &format!("{}{own}", command("exit 0")),
        "tcp :1",
        "mode own: the address would be in the snapshot",
    )?;
    let volume = "[[volumes]]\npath = \"/d\"\npolicy = \"read-only\"\nhost = \"/usr/share\"\n";
    build(
        &format!("{}{volume}", command("exit 0")),
        "tcp :1",
        "volumes: /d: what host directories hold",
    )?;
    h.ftvm(&[
        "image",
        "build",
        "--from",
        "/usr/bin/dash",
        "-t",
        "a:1",
        "--warm-until",
        "soon",
    ])?
    .refused(2, "is no condition")?;
    h.ftvm(&["image", "warm", "a:1"])?
        .refused(1, "does not say when it is warm")?;
    // The image itself is there, and keeps its name; those that were built before it have none.
    let list = h.ftvm(&["image", "ls"])?.good()?;
    same(
        "images of that name",
        list.lines().filter(|l| l.contains("a:1")).count(),
        1,
    )
}

/// A snapshot and a log go with their image to another host, and are restored and replayed there; those of another image are
/// refused.
pub fn attached() -> Done {
    let mut h = Host::new()?;
    let r = h.registry()?;
    let port = free_port()?;
    let name = format!("{r}/web:1");
    h.ftvm(&words(&plan(&h, &name, port)?))?.good()?;
    h.small("small:1", "hello")?;
    h.detached(&["run", "-d", "--name", "a", "--image", &name])?;
    up(port)?;
    ask(&h, port, "/ready")?;
    h.ftvm(&["checkpoint", "a", "-o", "a.ftsnap"])?.good()?;
    h.ftvm(&["rm", "--force", "a"])?.good()?;
    h.ftvm(&["record", "-o", "log", "--image", "small:1"])?.good()?;
    h.ftvm(&["log", "pack", "log"])?.good()?;
    for (image, what) in [("small:1", "a.ftsnap"), (&name, "log")] {
        h.ftvm(&["image", "attach", image, what])?
            .refused(1, "its root is oci:")?;
    }
    h.write("none", "no snapshot")?;
    h.ftvm(&["image", "attach", "small:1", "none"])?
        .refused(1, "none: ")?;
    let snapshot = h.ftvm(&["image", "attach", &name, "a.ftsnap"])?.good()?;
    let log = h.ftvm(&["image", "attach", "small:1", "log"])?.good()?;
    let small = format!("{r}/small:1");
    h.ftvm(&["image", "push", &name])?.good()?;
    h.ftvm(&["image", "push", "small:1", &small])?.good()?;
    h.elsewhere();
    h.ftvm(&["image", "pull", &name])?.good()?;
    h.ftvm(&["image", "extract", "-o", "b.ftsnap", &name, &snapshot])?
        .refused(1, "nothing that belongs to the image")?;
    for n in [&name, &small] {
        h.ftvm(&["image", "pull", "--all", n])?.good()?;
    }
    h.ftvm(&["image", "extract", "-o", "b.ftsnap", &name, &snapshot])?
        .good()?;
    h.ftvm(&["image", "extract", "-o", "b.ftsnap", &name, &snapshot])?
        .refused(1, "is there already")?;
    same(
        "a snapshot is not a warm one",
        h.ftvm(&["image", "ls"])?.good()?.contains("warm"),
        false,
    )?;
    h.detached(&["restore", "-d", "--name", "b", "b.ftsnap"])?;
    up(port)?;
    same("requests", ask(&h, port, "/seen")?, "2".into())?;
    h.ftvm(&["rm", "--force", "b"])?.good()?;
    h.ftvm(&["image", "extract", "-o", "other", &small, &log[..19]])?
        .good()?;
    same("replay", h.ftvm(&["replay", "other"])?.good()?, "hello".into())?;
    h.ftvm(&["image", "detach", &small, &log])?.good()?;
    h.ftvm(&["image", "extract", "-o", "third", &small, &log])?
        .refused(1, "nothing that belongs")
}

/// A warm image can be checkpointed again and restored; its memory is that of one that was never written out.
pub fn again() -> Done {
    let h = Host::new()?;
    let port = free_port()?;
    let mut build = plan(&h, "web:1", port)?;
    build.extend(["--warm-until".into(), format!("http :{port}/ready")]);
    h.ftvm(&words(&build))?.good()?;
    h.detached(&["run", "-d", "--name", "a", "--image", "web:1"])?;
    up(port)?;
    same("requests", ask(&h, port, "/seen")?, "2".into())?;
    h.ftvm(&[
        "checkpoint",
        "a",
        "--leave-running",
        "-o",
        "a.ftsnap",
        "--compare",
        "b.ftsnap",
    ])?
    .good()?;
    // Copied while it ran, and in one go.
    h.ftvm(&["snapshot", "compare", "a.ftsnap", "b.ftsnap"])?.good()?;
    same("requests", ask(&h, port, "/seen")?, "3".into())?;
    h.ftvm(&["rm", "--force", "a"])?.good()?;
    h.detached(&["restore", "-d", "--name", "b", "a.ftsnap"])?;
    up(port)?;
    same("requests", ask(&h, port, "/seen")?, "3".into())?;
    h.ftvm(&["rm", "--force", "b"])?.good().map(drop)
}

/// Encrypted: only with the passphrase; nothing of the memory is readable in the store.
pub fn encrypted() -> Done {
    let h = Host::new()?;
    let port = free_port()?;
    h.write("pass", "eight letters and more\n")?;
    h.write("wrong", "eight letters or less\n")?;
    let mut build = plan(&h, "web:1", port)?;
    build.extend([
        "--warm-until".into(),
        format!("tcp :{port}"),
        "--warm-encrypt".into(),
        "pass".into(),
    ]);
    h.ftvm(&words(&build))?.good()?;
    for (pass, warm) in [(Some("pass"), true), (Some("wrong"), false), (None, false)] {
        let mut args = vec!["run", "-d", "--rm", "--name", "c", "--image", "web:1"];
        args.extend(pass.iter().flat_map(|p| ["--passphrase-file", p]));
        let told = h.detached(&args)?;
        up(port)?;
        ask(&h, port, "/ready")?;
        let printed = log(&h, "c")?;
        h.ftvm(&["rm", "--force", "c"])?.good()?;
        if printed.is_empty() != warm || told.contains("a cold start") == warm {
            return Err(format!("passphrase {pass:?}: told {told:?}, printed {printed:?}"));
        }
    }
    readable(
        &h.data.join("ftvm/images/blobs/sha256"),
        b"writeFileSync('/tmp/start'",
    )
}

/// The server's text stands in its layer, packed, and in its memory: not as it is in any blob.
fn readable(blobs: &Path, part: &[u8]) -> Done {
    for entry in io(fs::read_dir(blobs))?.flatten() {
        let bytes = io(fs::read(entry.path()))?;
        if bytes.windows(part.len()).any(|w| w == part) {
            return Err(format!("{} can be read", entry.path().display()));
        }
    }
    Ok(())
}
