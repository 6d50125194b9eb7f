//! Secrets: given at the run, in no image and in no file that a run leaves, in snapshots only encrypted.

use std::fs;
use std::path::Path;

use crate::host::{BUILD, Done, Host, io, same};

const WORDS: &str = "correct-horse-battery-staple";

/// Files below `dir` that hold the secret.
fn holders(dir: &Path, out: &mut Vec<String>) {
    for e in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = e.path();
        let kind = e.file_type().ok();
        if kind.is_some_and(|k| k.is_dir()) {
            holders(&path, out);
        } else if kind.is_some_and(|k| k.is_file()) {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(WORDS.len()).any(|w| w == WORDS.as_bytes()) {
                out.push(path.display().to_string());
            }
        }
    }
}

/// The store of secrets, as podman's.
pub fn store() -> Done {
    let h = Host::new()?;
    h.write("words", WORDS)?;
    h.write("other", "other words")?;
    h.ftvm(&["secret", "create", "db", "words"])?.good()?;
    h.ftvm(&["secret", "create", "db", "other"])?
        .refused(1, "is there already")?;
    h.ftvm(&["secret", "create", "../x", "other"])?
        .refused(2, "is no name of a secret")?;
    h.write("empty", "")?;
    h.ftvm(&["secret", "create", "e", "empty"])?
        .refused(1, "1 to 512000 bytes")?;
    same("ls", h.ftvm(&["secret", "ls"])?.good()?, "db".into())?;
    let show = |more: &[&str]| -> Done<String> {
        let script =
            "cat /run/secrets/* 2>/dev/null; echo $DB; stat -c '%a %u:%g' /run/secrets/* 2>/dev/null; true";
        let mut words = vec!["run"];
        words.extend(more);
        words.extend(["--", "busybox", "sh", "-c", script]);
        h.ftvm(&words)?.good()
    };
    same("none", show(&[])?, String::new())?;
    same("a file", show(&["--secret", "db"])?, format!("{WORDS}\n444 0:0"))?;
    same(
        "as was said",
        show(&[
            "--secret",
            "db,target=/run/secrets/x,uid=7,gid=8,mode=0400",
            "--user",
            "7:8",
        ])?,
        format!("{WORDS}\n400 7:8"),
    )?;
    // Others of the image than its owner cannot read it.
    let other = show(&["--secret", "db,uid=7,mode=0400", "--user", "9:9"])?;
    same("another's", other, "400 7:0".into())?;
    same(
        "a variable",
        show(&["-e", "DB=plain", "--secret", "db,type=env,target=DB"])?,
        WORDS.into(),
    )?;
    for (option, part) in [
        ("db,target=/etc/x", "directly below /run/secrets/"),
        ("none", "ftvm secret create none FILE"),
    ] {
        h.ftvm(&["run", "--secret", option, "--", "true"])?
            .refused(125, part)?;
    }
    h.ftvm(&[
        "run",
        "--secret",
        "db",
        "--",
        "busybox",
        "sh",
        "-c",
        "echo x > /run/secrets/db",
    ])?
    .refused(1, "Read-only file system")?;
    h.ftvm(&["secret", "create", "--replace", "db", "other"])?
        .good()?;
    same(
        "replaced",
        show(&["--secret", "db,type=env,target=DB"])?,
        "other words".into(),
    )?;
    h.ftvm(&["secret", "rm", "db"])?.good()?;
    h.ftvm(&["secret", "rm", "db"])?
        .refused(1, "no secret is named db")
}

/// An image says what it needs; nothing of it is anywhere but in the store, and in memory.
pub fn image() -> Done {
    let h = Host::new()?;
    h.write("words", WORDS)?;
    h.write("pass", "eight letters and more\n")?;
    h.ftvm(&["secret", "create", "db", "words"])?.good()?;
    io(fs::remove_file(h.cwd().join("words")))?;
    let toml = r#"version = 1
command = ["/usr/bin/busybox", "sh", "-c", "echo up; read x < /run/secrets/password; echo $TOKEN > /var/kept; while :; do sleep 1; done"]
[[secrets]]
name = "db"
target = "password"
mode = "0400"
"#;
    h.write("a.toml", toml)?;
    h.ftvm(&BUILD)?.good()?;
    let mut warm = BUILD.to_vec();
    warm.extend(["--warm-until", "log up"]);
    h.ftvm(&warm)?
        .refused(1, "secrets: db: it would be in the snapshot")?;
    h.ftvm(&["run", "--image", "a:1"])?
        .refused(125, "it needs the secret db: --secret db gives it")?;
    h.detached(&[
        "run",
        "-d",
        "--name",
        "a",
        "--recordable",
        "--image",
        "a:1",
        "--secret",
        "db",
    ])?;
    let read = |run: &str| {
        h.ftvm(&["exec", run, "busybox", "cat", "/run/secrets/password"])?
            .good()
    };
    same("read", read("a")?, WORDS.into())?;
    // In the clear: refused, and it goes on.
    for args in [
        &["checkpoint", "a", "-o", "a.ftsnap"][..],
        &["checkpoint", "a", "--leave-running", "-o", "a.ftsnap"],
        &["checkpoint", "a", "--compress", "-o", "a.ftsnap"],
        &["record", "start", "a", "-o", "log"],
    ] {
        h.ftvm(args)?.refused(1, "the image holds secrets")?;
    }
    for args in [
        &["record", "-o", "log", "--secret", "db", "--", "true"][..],
        &[
            "run",
            "--secret",
            "db",
            "--checkpoint-every",
            "1s",
            "--checkpoint-file",
            "x.ftsnap",
            "--",
            "true",
        ],
        &[
            "run",
            "--secret",
            "db",
            "--protect",
            "127.0.0.1:1",
            "--insecure",
            "--arbiter",
            "file:arbiter",
            "--net",
            "lo,ip=10.0.0.100/24",
            "--",
            "true",
        ],
    ] {
        h.ftvm(args)?.refused(7, "secret")?;
    }
    same("read again", read("a")?, WORDS.into())?;
    h.ftvm(&["checkpoint", "a", "--encrypt", "pass", "-o", "a.ftsnap"])?
        .good()?;
    h.ftvm(&[
        "snapshot",
        "squash",
        "--passphrase-file",
        "pass",
        "-o",
        "b.ftsnap",
        "a.ftsnap",
    ])?
    .refused(1, "the image holds secrets; give --encrypt FILE")?;
    h.detached(&[
        "restore",
        "-d",
        "--name",
        "b",
        "--passphrase-file",
        "pass",
        "a.ftsnap",
    ])?;
    same("restored", read("b")?, WORDS.into())?;
    h.ftvm(&["checkpoint", "b", "-o", "b.ftsnap"])?
        .refused(1, "the image holds secrets")?;
    h.ftvm(&["stop", "-t", "0", "b"])?.good()?;
    // Started again, it is given again.
    h.detached(&["start", "a"])?;
    same("started again", read("a")?, WORDS.into())?;
    h.ftvm(&["stop", "-t", "0", "a"])?.good()?;
    let mut all = Vec::new();
    holders(&h.scratch.side(), &mut all);
    holders(&h.cwd(), &mut all);
    match &all[..] {
        [one] if one.ends_with("/ftvm/secrets/db") => Ok(()),
        _ => Err(format!("it is in {all:?}")),
    }
}
