//! Protection on one host, as far as it needs no network of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

/// A process that ends with this value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path, log: &Path, args: &[&str]) -> Ended {
    let log = fs::File::create(log).expect("a log");
    let child = Command::new(env!("CARGO_BIN_EXE_ftvm"))
        .args(args)
        .current_dir(dir)
        .env("XDG_RUNTIME_DIR", dir)
        .env("XDG_STATE_HOME", dir)
        .env("XDG_DATA_HOME", dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn();
    Ended(child.expect("started"))
}

fn wait_for(log: &Path, words: &str) -> String {
    let end = Instant::now() + LONG;
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        if text.contains(words) {
            return text;
        }
        assert!(Instant::now() < end, "{words:?} was never said: {text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_host_that_has_not_the_memory_is_no_backup() {
    let dir: PathBuf = std::env::temp_dir().join(format!("ftvm-protect-{}", std::process::id()));
    let (a, b) = (dir.join("a"), dir.join("b"));
    for d in [&a, &b] {
        use std::os::unix::fs::DirBuilderExt;
        let mut make = fs::DirBuilder::new();
        make.recursive(true).mode(0o700).create(d).expect("made");
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = port.local_addr().expect("known").to_string();
    drop(port);
    let agent_log = dir.join("agent.log");
    let _agent = start(&b, &agent_log, &["agent", "--listen", &at, "--insecure"]);
    wait_for(&agent_log, "agent listening");
    let register = format!("file:{}", dir.join("register").display());
    let run = |memory: &str, log: &Path| {
        let options = [
            "run",
            "--net",
            "none",
            "--protect",
            &at,
            "--insecure",
            "--arbiter",
            &register,
            "--unprotected",
            "run",
            "--memory",
            memory,
            "--",
            "/bin/sleep",
            "1000",
        ];
        start(&a, log, &options)
    };
    // More than any host has.
    let log = dir.join("large.log");
    let large = run("4000000g", &log);
    let said = wait_for(&log, "of memory for the image");
    assert!(!said.contains("ftvm: protected"), "{said}");
    wait_for(&log, "still unprotected");
    drop(large);
    // The same with what every host has.
    let log = dir.join("small.log");
    let small = run("16m", &log);
    wait_for(&log, "ftvm: protected");
    drop(small);
    let _ = fs::remove_dir_all(&dir);
}
