//! `replay --gdb` with the real gdb in batch mode.

use super::{LIMIT, ftvm, run};
use ftl_ci::bounded;
use ftl_ci::place::{self, Scratch};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn program(scratch: &Scratch) -> PathBuf {
    let from = place::repository().join("ci/tests/record/looked_at.c");
    let to = scratch.side().join("looked_at");
    let cc = Command::new("gcc")
        .args(["-std=gnu11", "-O0", "-g", "-pthread", "-o"])
        .args([&to, &from])
        .status();
    assert!(cc.is_ok_and(|s| s.success()), "compiling looked_at.c");
    to
}

/// Replays under gdb, which does these commands: what gdb said, the replay's output and its exit code.
fn session(
    scratch: &Scratch,
    log: &Path,
    program: &Path,
    commands: &[&str],
) -> (String, String, Option<i32>) {
    let mut command = ftvm(scratch, &[&"replay", &"--gdb", &"0", &log]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut replay = command.spawn().expect("ftvm starts");
    let mut said = BufReader::new(replay.stderr.take().expect("a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    let at = line.trim().rsplit(' ').next().unwrap_or_default().to_string();
    let mut gdb = Command::new("gdb");
    gdb.args([
        "-nx",
        "-batch",
        "-ex",
        "set pagination off",
        "-ex",
        "set sysroot /",
        "-ex",
        "set confirm off",
    ])
    .args([
        "-ex",
        "set debuginfod enabled off",
        "-ex",
        &format!("target remote {at}"),
    ]);
    for c in commands {
        gdb.args(["-ex", c]);
    }
    gdb.arg(program).env("LC_ALL", "C");
    let told = bounded::run(gdb, None, LIMIT).expect("gdb starts");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&told.stdout),
        String::from_utf8_lossy(&told.stderr)
    );
    if told.timed_out {
        let _ = replay.kill();
        panic!("gdb hangs; it said:\n{text}");
    }
    let mut out = String::new();
    replay
        .stdout
        .take()
        .expect("a pipe")
        .read_to_string(&mut out)
        .expect("text");
    let code = replay.wait().expect("it ends").code();
    let mut rest = String::new();
    let _ = said.read_to_string(&mut rest);
    (format!("{text}\nreplay said: {line}{rest}"), out, code)
}

#[test]
fn gdb_looks_into_a_replay() {
    let scratch = Scratch::new().expect("a directory");
    let program = program(&scratch);
    let log = scratch.side().join("log");
    let recorded = run(ftvm(
        &scratch,
        &[&"record", &"--check-memory", &"-o", &log, &"--", &program],
    ));
    assert_eq!(recorded.code, 3, "{}", recorded.tail());
    let expected = String::from_utf8_lossy(&recorded.stdout).into_owned();

    let commands: &[&str] = &[
        "break add",
        "continue",
        "print n",
        "info threads",
        "backtrace",
        "finish",
        "continue",
        "print n",
        "print total",
        "delete",
        "watch total",
        "continue",
        "print total",
        "delete",
        "stepi",
        "stepi",
        "x/i $pc",
        "set var total = 99",
        "continue",
    ];
    let (text, out, code) = session(&scratch, &log, &program, commands);
    for want in [
        "Breakpoint 1, add (n=1)",
        "$1 = 1\n",
        "waits in futex",
        "#1  0x",
        "in main () at",
        "Value returned is $2 = 1",
        "$3 = 2\n",
        "$4 = 1\n",
        "Old value = 1",
        "New value = 3",
        "$5 = 3\n",
        "exited with code 03",
    ] {
        assert!(text.contains(want), "no {want:?} in:\n{text}");
    }
    // The replay is the same with gdb in it, to the byte of output and memory.
    assert_eq!((out.as_str(), code), (expected.as_str(), Some(0)), "{text}");

    // A gdb that goes away leaves the replay to itself.
    let (text, out, code) = session(&scratch, &log, &program, &["break add", "continue", "disconnect"]);
    assert!(text.contains("Breakpoint 1, add (n=1)"), "{text}");
    assert_eq!((out.as_str(), code), (expected.as_str(), Some(0)), "{text}");

    // Many steps, over calls and through libraries: still the same.
    let (text, out, code) = session(
        &scratch,
        &log,
        &program,
        &[
            "break main",
            "continue",
            "stepi 3000",
            "info registers rip",
            "continue",
        ],
    );
    assert!(text.contains("rip "), "{text}");
    assert_eq!((out.as_str(), code), (expected.as_str(), Some(0)), "{text}");
}
