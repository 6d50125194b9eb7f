//! `record --chaos` and `hunt`: bugs that a plain run does not show.

use super::{ftvm, replay, run};
use ftl_ci::place::{self, Scratch};
use std::path::PathBuf;
use std::process::Command;

const BUGS: &[&str] = &["update", "message", "condition", "events"];

fn program(scratch: &Scratch) -> PathBuf {
    let from = place::repository().join("ci/tests/record/bugs.c");
    let to = scratch.side().join("bugs");
    let cc = Command::new("gcc")
        .args(["-std=gnu11", "-O1", "-pthread", "-o"])
        .args([&to, &from])
        .status();
    assert!(cc.is_ok_and(|s| s.success()), "compiling bugs.c");
    to
}

#[test]
fn a_bug_shows_under_chaos_only() {
    let scratch = Scratch::new().expect("a directory");
    let program = program(&scratch);
    for bug in BUGS {
        for _ in 0..5 {
            let plain = run(ftvm(&scratch, &[&"run", &"--", &program, bug]));
            assert_eq!(plain.code, 0, "{bug} without chaos: {}", plain.tail());
        }
        let log = scratch.side().join(format!("{bug}.log"));
        let hunt = run(ftvm(
            &scratch,
            &[
                &"hunt", &"-n", &"200", &"--seed", &"1", &"-o", &log, &"--", &program, bug,
            ],
        ));
        assert_eq!(hunt.code, 1, "{bug}: no seed shows it: {}", hunt.tail());
        let said = String::from_utf8_lossy(&hunt.stderr).into_owned();
        assert!(said.contains("exit code 1"), "{bug}: {said}");
        // The recording is of the failure, and it is the same each time.
        for _ in 0..2 {
            let again = replay(&scratch, &log);
            assert_eq!(again.code, 0, "{bug}: {}", again.tail());
            let shown = String::from_utf8_lossy(&again.stdout).into_owned();
            assert!(
                !shown.is_empty() && said.contains(&shown),
                "{bug}: replayed {shown:?}, hunted {said:?}"
            );
        }
        let info = run(ftvm(&scratch, &[&"log", &"info", &log]));
        assert!(
            String::from_utf8_lossy(&info.stdout).contains("exit code 1"),
            "{bug}: {}",
            info.tail()
        );
    }
}

#[test]
fn right_programs_stay_right_under_chaos() {
    let scratch = Scratch::new().expect("a directory");
    let script = "import socket, threading, hashlib, os, subprocess
s = socket.create_server(('127.0.0.1', 0))
def serve():
    c, _ = s.accept()
    h = hashlib.sha256()
    while d := c.recv(65536): h.update(d)
    c.sendall(h.digest()); c.close()
t = threading.Thread(target=serve); t.start()
c = socket.create_connection(s.getsockname())
data = bytes(range(256)) * 2000
c.sendall(data); c.shutdown(socket.SHUT_WR)
got = b''
while d := c.recv(100): got += d
t.join()
assert got == hashlib.sha256(data).digest()
out = subprocess.run(['sh', '-c', 'seq 20000 | sort -n | tail -1'], stdout=subprocess.PIPE).stdout
assert out == b'20000\\n', out
print('right')";
    let hunt = run(ftvm(
        &scratch,
        &[
            &"hunt",
            &"-n",
            &"4",
            &"--seed",
            &"7",
            &"--timeout",
            &"70",
            &"--",
            &"python3",
            &"-c",
            &script,
        ],
    ));
    assert_eq!(hunt.code, 0, "{}", hunt.tail());
}

#[test]
fn a_run_that_does_not_end_is_a_failure() {
    let scratch = Scratch::new().expect("a directory");
    let log = scratch.side().join("log");
    let hunt = run(ftvm(
        &scratch,
        &[&"hunt", &"--timeout", &"10", &"-o", &log, &"--", &"sleep", &"100"],
    ));
    assert_eq!(hunt.code, 1, "{}", hunt.tail());
    assert!(
        String::from_utf8_lossy(&hunt.stderr).contains("did not end in time"),
        "{}",
        hunt.tail()
    );
    assert!(log.join("000000.ftlog").exists());
}
