//! What is done with logs: packed, looked at, made without prediction, on a full disk.

use super::{ftvm, guest, replay, run};
use ftl_ci::place::Scratch;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

fn info(scratch: &Scratch, log: &Path) -> String {
    let done = run(ftvm(scratch, &[&"log", &"info", &"--json", &log]));
    assert_eq!(done.code, 0, "{}", done.tail());
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// The number behind the first `"name":` after `section`.
fn number(json: &str, section: &str, name: &str) -> u64 {
    let rest = json.split_once(section).map_or("", |(_, r)| r);
    let rest = rest.split_once(&format!("\"{name}\":")).map_or("", |(_, r)| r);
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no {section}.{name} in {json}"))
}

#[test]
fn a_packed_log_needs_no_other_file() {
    let scratch = Scratch::new().expect("a directory");
    // Not in the working directory: what an image can write is kept in its log anyway.
    let program = guest(&scratch, "hello/hello.c", &[]);
    let log = scratch.side().join("log");
    let recorded = run(ftvm(&scratch, &[&"record", &"-o", &log, &"--", &program]));
    assert_eq!(recorded.code, 0, "{}", recorded.tail());
    let elsewhere = scratch.side().join("moved");
    std::fs::rename(&program, &elsewhere).expect("moved");
    let missing = replay(&scratch, &log);
    assert_eq!(missing.code, 3, "{}", missing.tail());
    assert!(
        String::from_utf8_lossy(&missing.stderr).contains("is missing"),
        "{}",
        missing.tail()
    );
    let cannot = run(ftvm(&scratch, &[&"log", &"pack", &log]));
    assert_eq!(cannot.code, 1, "{}", cannot.tail());
    std::fs::rename(&elsewhere, &program).expect("back");
    let packed = run(ftvm(&scratch, &[&"log", &"pack", &log]));
    assert_eq!(packed.code, 0, "{}", packed.tail());
    std::fs::write(&program, "another program").expect("changed");
    let again = replay(&scratch, &log);
    assert_eq!(
        (again.code, &again.stdout),
        (0, &recorded.stdout),
        "{}",
        again.tail()
    );
}

#[test]
fn without_prediction_everything_is_in_the_log() {
    let scratch = Scratch::new().expect("a directory");
    let args = [
        "--",
        "bash",
        "-c",
        "for i in {1..50}; do echo $i $EPOCHREALTIME >/dev/null; echo $i; done",
    ];
    let (on, off) = (scratch.side().join("on"), scratch.side().join("off"));
    let with = run_with(&scratch, &[&"record", &"-o", &on], &args);
    let without = run_with(&scratch, &[&"record", &"--predict", &"off", &"-o", &off], &args);
    assert_eq!((with.code, without.code, &with.stdout), (0, 0, &without.stdout));
    let (on_info, off_info) = (info(&scratch, &on), info(&scratch, &off));
    for section in ["\"clock\":", "\"OutStream\":"] {
        let asked = number(&off_info, section, "asked");
        assert!(
            asked > 0 && asked == number(&off_info, section, "logged"),
            "{section} {off_info}"
        );
        assert!(
            number(&on_info, section, "logged") < number(&on_info, section, "asked"),
            "{section} {on_info}"
        );
    }
    assert!(
        number(&off_info, "\"beyond\":", "choices") > number(&on_info, "\"beyond\":", "choices"),
        "{on_info}\n{off_info}"
    );
    // A read is never answered from further away than the stated error.
    assert!(number(&on_info, "\"error_ns\":", "p99") <= 100_000, "{on_info}");
    for log in [on, off] {
        let again = replay(&scratch, &log);
        assert_eq!((again.code, &again.stdout), (0, &with.stdout), "{}", again.tail());
    }
}

/// A server reads the same file for each request: what it held is in the log, but not each time.
#[test]
fn what_is_read_again_is_logged_once() {
    let scratch = Scratch::new().expect("a directory");
    let (file, log) = (scratch.side().join("page"), scratch.side().join("log"));
    std::fs::write(&file, "x".repeat(3000)).expect("written");
    let script = "import os, sys\n\
                  for i in range(500):\n    \
                      f = os.open(sys.argv[1], os.O_RDONLY)\n    \
                      b = os.read(f, 4000)\n    \
                      os.close(f)\n\
                  print(len(b), b[:3])";
    let name = file.display().to_string();
    let done = run_with(
        &scratch,
        &[&"record", &"-o", &log],
        &["--", "python3", "-Sc", script, &name],
    );
    assert_eq!(
        (done.code, &done.stdout[..]),
        (0, &b"3000 b'xxx'\n"[..]),
        "{}",
        done.tail()
    );
    let info = info(&scratch, &log);
    let asked = number(&info, "\"PreadGuest\":", "asked");
    let logged = number(&info, "\"PreadGuest\":", "logged");
    assert!(asked >= 500 && logged <= asked - 490, "{info}");
    // The replay has them from the log.
    std::fs::write(&file, "y".repeat(3000)).expect("changed");
    let again = replay(&scratch, &log);
    assert_eq!((again.code, &again.stdout), (0, &done.stdout), "{}", again.tail());
}

fn run_with(
    scratch: &Scratch,
    first: &[&dyn AsRef<std::ffi::OsStr>],
    args: &[&str],
) -> ftl_ci::bounded::Outcome {
    let mut command = ftvm(scratch, first);
    command.args(args);
    run(command)
}

/// On a file system of its own that is too small: the program does not notice, the log is good up to its last frame.
#[test]
fn a_full_disk_ends_the_recording_only() {
    let scratch = Scratch::new().expect("a directory");
    let small = scratch.side().join("small");
    std::fs::create_dir(&small).expect("a directory");
    let script = "mount -t tmpfs -o size=192k none \"$1\" || exit 77
        \"$2\" record -o \"$1/log\" -- bash -c 'for i in 1 2 3; do cat /etc/services /etc/passwd /usr/bin/env; done | wc -c; exit 5'
        code=$?; cp -r \"$1/log\" \"$3\"; exit $code";
    let program = ftl_ci::place::ftvm().expect("an ftvm to test");
    let kept = scratch.side().join("kept");
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", script, "sh"]);
    command.args([&small, &program, &kept]).current_dir(scratch.cwd());
    let done = run(command);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.code == 77 || said.contains("unshare failed") {
        eprintln!("skipped: no user namespaces here: {said}");
        return;
    }
    assert_eq!(done.code, 5, "{}", done.tail());
    assert!(said.contains("the recording ends here"), "{said}");
    assert!(info(&scratch, &kept).contains("\"whole\":false"));
    let again = replay(&scratch, &kept);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        again.code == 0 && said.contains("replayed up to there"),
        "{}",
        again.tail()
    );
}

/// Following ends when the recorder was killed; and such a log is not written on.
#[test]
fn a_killed_recorder_ends_its_followers() {
    let scratch = Scratch::new().expect("a directory");
    let log = scratch.side().join("log");
    let mut command = ftvm(&scratch, &[&"record", &"-o", &log]);
    command.args(["--", "bash", "-c", "echo begun; while :; do sleep 0.02; done"]);
    command.stdout(std::process::Stdio::piped());
    let mut recording = command.spawn().expect("ftvm starts");
    let mut line = String::new();
    BufReader::new(recording.stdout.take().expect("a pipe"))
        .read_line(&mut line)
        .expect("a line");
    assert_eq!(line, "begun\n");
    let mut command = ftvm(&scratch, &[&"log", &"follow", &"--new", &log]);
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    let mut follower = command.spawn().expect("ftvm starts");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(follower.try_wait().is_ok_and(|s| s.is_none()), "it has ended");
    recording.kill().expect("killed");
    let _ = recording.wait();
    let said = follower.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("nothing writes it any more"), "{text}");
    // The first segment may be gone, as `--keep` has it: what is left is a log all the same.
    let first = log.join("000000.ftlog");
    std::fs::rename(&first, log.join("000007.ftlog")).expect("renamed");
    let mut command = ftvm(&scratch, &[&"record", &"-o", &log, &"--", &"true"]);
    let said = command.output().expect("ftvm starts");
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(125), "{text}");
    assert!(
        text.contains("holds a log already; name a new directory"),
        "{text}"
    );
}

/// A log is read while it is written, to its end.
#[test]
fn a_log_is_followed() {
    let scratch = Scratch::new().expect("a directory");
    let log = scratch.side().join("log");
    let script =
        "for i in {1..30}; do echo $i; sleep 0.02; done; while [ ! -e go ]; do sleep 0.02; done; exit 3";
    let mut command = ftvm(
        &scratch,
        &[&"record", &"--anchor-every", &"event:300", &"-o", &log],
    );
    command.args(["--", "bash", "-c", script]);
    command.stdout(std::process::Stdio::null());
    let mut recording = command.spawn().expect("ftvm starts");
    let begun = std::time::Instant::now();
    while !log.join("anchors").exists() {
        assert!(begun.elapsed() < super::LIMIT, "no anchor");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut command = ftvm(&scratch, &[&"log", &"follow", &log]);
    command.stdout(std::process::Stdio::piped());
    let mut follower = command.spawn().expect("ftvm starts");
    let mut lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().and_then(Result::ok);
    // While the program waits for us, its records come.
    let mut seen = Vec::new();
    while !seen
        .last()
        .is_some_and(|l: &String| l.contains("anchor     1 after entry"))
    {
        seen.push(next().expect("a line"));
    }
    assert!(recording.try_wait().is_ok_and(|s| s.is_none()), "it has ended");
    std::fs::write(scratch.cwd().join("go"), "").expect("a file");
    while let Some(l) = next() {
        seen.push(l);
    }
    assert!(follower.wait().is_ok_and(|s| s.success()));
    assert_eq!(recording.wait().expect("it ends").code(), Some(3));
    assert!(seen[0].ends_with("  start"), "{}", seen[0]);
    let last = seen.last().expect("lines");
    assert!(last.ends_with("end        exit code 3"), "{last}");
    // Every record, in order.
    let count = number(&info(&scratch, &log), "{", "records");
    for (n, line) in (0..count).zip(&seen) {
        assert_eq!(line.split_whitespace().next(), Some(n.to_string().as_str()));
    }
    assert_eq!(seen.len() as u64, count);
}
