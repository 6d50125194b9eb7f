//! Hooks of an image: what they do, and what becomes of a checkpoint or a restored image whose hook fails.

use crate::host::{BUILD, Done, Host, io, same};

/// What a hook says goes to /hooks of the image; a file there makes one fail.
const TOML: &str = r#"version = 1
command = ["/usr/bin/busybox", "sh", "-c", "echo up; while :; do sleep 1; done"]
warm-until = "log up"

[hooks.before-checkpoint]
command = ["/usr/bin/busybox", "sh", "-c", "echo before >> /hooks; test ! -e /slow || exec busybox sleep 1000; test ! -e /ill || { echo it is not well; exit 3; }"]
timeout = "60s"

[hooks.after-restore]
command = ["/usr/bin/busybox", "sh", "-c", "echo after >> /hooks; test ! -e /ill"]
"#;

fn build(h: &Host, toml: &str) -> Done {
    h.write("a.toml", toml)?;
    h.ftvm(&BUILD)?.good().map(drop)
}

/// What the hooks of a run have said, once it has so many lines.
fn said(h: &Host, run: &str, lines: usize) -> Done<String> {
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let text = h
            .ftvm(&["exec", run, "busybox", "cat", "/hooks"])?
            .out
            .trim()
            .to_string();
        if text.lines().count() >= lines || std::time::Instant::now() > limit {
            return Ok(text.replace('\n', " "));
        }
    }
}

/// Before checkpoints, after restores, at a warm start and in clones.
pub fn run() -> Done {
    let h = Host::new()?;
    build(&h, TOML)?;
    // The one before belongs to the build's own run, whose snapshot it is.
    h.detached(&["run", "-d", "--name", "w", "--image", "a:1"])?;
    same("warm", said(&h, "w", 2)?, "before after".into())?;
    h.detached(&["run", "-d", "--cold", "--name", "a", "--image", "a:1"])?;
    h.ftvm(&["checkpoint", "a", "--leave-running", "-o", "a.ftsnap"])?
        .good()?;
    same("checkpoint", said(&h, "a", 1)?, "before".into())?;
    h.ftvm(&["checkpoint", "a", "--dry-run"])?.good()?;
    h.ftvm(&[
        "checkpoint",
        "a",
        "--no-hooks",
        "--leave-running",
        "-o",
        "b.ftsnap",
    ])?
    .good()?;
    same("without them", said(&h, "a", 1)?, "before".into())?;
    h.ftvm(&["rm", "--force", "a", "w"])?.good()?;
    h.detached(&["restore", "-d", "--name", "b", "a.ftsnap"])?;
    same("restored", said(&h, "b", 2)?, "before after".into())?;
    // Also where the image came by a snapshot.
    h.ftvm(&["checkpoint", "b", "-o", "c.ftsnap"])?.good()?;
    h.detached(&["clone", "-d", "-n", "2", "--name", "c", "c.ftsnap"])?;
    for run in ["c-1", "c-2"] {
        same(run, said(&h, run, 4)?, "before after before after".into())?;
    }
    h.detached(&["restore", "-d", "--no-hooks", "--name", "d", "c.ftsnap"])?;
    same(
        "restored without",
        said(&h, "d", 3)?,
        "before after before".into(),
    )
}

/// One that fails, or does not end: no checkpoint, and the image goes on; behind a restore, the image ends.
pub fn fail() -> Done {
    let h = Host::new()?;
    // One that is to take too long has a short time, those that are to answer a long one.
    let cold = TOML.replace("60s", "1s").replace("warm-until = \"log up\"\n", "");
    build(&h, &cold)?;
    h.detached(&["run", "-d", "--cold", "--name", "slow", "--image", "a:1"])?;
    let touch = |run: &str, file: &str| h.ftvm(&["exec", run, "busybox", "touch", file])?.good();
    let files = || -> Done<usize> {
        let all = io(std::fs::read_dir(h.cwd()))?.flatten();
        Ok(all
            .filter(|f| f.file_name().to_string_lossy().contains("ftsnap"))
            .count())
    };
    touch("slow", "/slow")?;
    h.ftvm(&["checkpoint", "slow", "-o", "a.ftsnap"])?.refused(
        1,
        "hook before-checkpoint: no answer within 1000 ms: killed; no checkpoint was taken",
    )?;
    h.ftvm(&["exec", "slow", "busybox", "rm", "/slow"])?.good()?;
    h.ftvm(&["rm", "--force", "slow"])?.good()?;
    build(&h, TOML)?;
    h.detached(&["run", "-d", "--cold", "--name", "a", "--image", "a:1"])?;
    touch("a", "/ill")?;
    h.ftvm(&["checkpoint", "a", "--compress", "-o", "a.ftsnap"])?
        .refused(
            1,
            "hook before-checkpoint: exit code 3: it is not well; no checkpoint was taken",
        )?;
    same("files", files()?, 0)?;
    same("it goes on", said(&h, "a", 1)?, "before".into())?;
    h.ftvm(&["checkpoint", "a", "--no-hooks", "-o", "a.ftsnap"])?
        .good()?;
    h.ftvm(&["restore", "--name", "b", "a.ftsnap"])?
        .refused(125, "hook after-restore: exit code 1; the image was ended")?;
    let list = h.ftvm(&["ps", "-a"])?.good()?;
    match list.contains("exited (125)") {
        true => Ok(()),
        false => Err(list),
    }
}

/// A build whose image's hook fails has no snapshot, and says why.
pub fn warm() -> Done {
    let h = Host::new()?;
    h.write(
        "a.toml",
        &TOML.replace("echo before >> /hooks;", "echo it cannot; exit 9;"),
    )?;
    h.ftvm(&BUILD)?
        .refused(1, "hook before-checkpoint: exit code 9: it cannot")?;
    h.ftvm(&["image", "inspect", "a:1"])?.good().map(drop)
}
