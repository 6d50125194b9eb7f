//! `--log-format json`: an agent, a protected run and its takeover say nothing that is no object, and each says whose line it is.

use serde_json::Value;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
/// It says nothing itself.
const PROGRAM: [&str; 2] = ["/bin/sleep", "1000"];

/// A host: directories of its own.
struct Host(PathBuf);

impl Host {
    fn new(name: &str) -> Host {
        let dir = std::env::temp_dir().join(format!("ftvm-logs-{name}-{}", std::process::id()));
        let mut make = fs::DirBuilder::new();
        make.recursive(true).mode(0o700).create(&dir).expect("made");
        Host(dir)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_ftvm"));
        c.args(args).current_dir(&self.0).stdin(Stdio::null());
        for name in ["XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_DATA_HOME"] {
            c.env(name, &self.0);
        }
        c
    }

    /// What it says on stderr goes to the file `log`.
    fn start(&self, log: &str, args: &[&str]) -> Running {
        let file = fs::File::create(self.0.join(log)).expect("a log");
        Running(self.command(args).stderr(file).spawn().expect("started"))
    }

    fn ftvm(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("started")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.ftvm(&["kill", "-s", "KILL", "app"]);
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(words: &str, read: impl Fn() -> String) -> String {
    let end = Instant::now() + LONG;
    loop {
        let text = read();
        if text.contains(words) {
            return text;
        }
        assert!(Instant::now() < end, "{words:?} was never said: {text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn of_file(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Every line as an object with what all have.
fn objects(text: &str) -> Vec<Value> {
    let object = |line: &str| {
        let v: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?} in {text}"));
        let time = v["time"].as_str().expect("a time");
        assert!(
            time.len() == "2000-01-01T00:00:00.000000Z".len() && time.ends_with('Z') && &time[10..11] == "T",
            "{time}"
        );
        let level = v["level"].as_str().expect("a level");
        assert!(["error", "warn", "info", "debug"].contains(&level), "{level}");
        assert!(
            v["message"].is_string() && v["host"].is_string() && v["pid"].is_u64(),
            "{line}"
        );
        assert!(!v["message"].as_str().unwrap().starts_with("ftvm:"), "{line}");
        v
    };
    assert!(!text.is_empty());
    text.lines().map(object).collect()
}

fn with<'a>(all: &'a [Value], words: &str) -> &'a Value {
    let found = all
        .iter()
        .find(|v| v["message"].as_str().unwrap().contains(words));
    found.unwrap_or_else(|| panic!("{words:?} is not in {all:?}"))
}

fn free() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    port.local_addr().expect("known").to_string()
}

#[test]
fn an_agent_a_protected_run_and_its_takeover_say_objects_only() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    let at = free();
    let json = ["--log-format", "json"];
    let agent = ["agent", "--listen", &at, "--insecure", "--log-level", "debug"];
    let agent = b.start("agent.log", &[&agent[..], &json].concat());
    let agent_log = || of_file(&b.0.join("agent.log"));
    wait_for("agent listening", agent_log);
    let register = format!("file:{}", b.0.join("register").display());
    let options = [
        "run",
        "--name",
        "app",
        "--net",
        "none",
        "--protect",
        &at,
        "--insecure",
        "--arbiter",
        &register,
        "--",
    ];
    let primary = a
        .command(&[&options[..], &PROGRAM].concat())
        .env("FTVM_LOG_FORMAT", "json")
        .stderr(fs::File::create(a.0.join("run.log")).expect("a log"))
        .spawn();
    let primary = Running(primary.expect("started"));
    let said = wait_for("\"protected\"", || of_file(&a.0.join("run.log")));
    let all = objects(&said);
    let protected = all
        .iter()
        .find(|v| v["message"] == "protected")
        .expect("it is there");
    assert_eq!(protected["role"], "primary");
    assert_eq!(protected["run"], "app");
    assert_eq!(protected["peer"], at);
    let (image, epoch) = (&protected["image"], protected["epoch"].as_u64());
    assert_eq!(image.as_str().map(str::len), Some(16));
    let epoch = epoch.expect("an epoch");
    let said = wait_for("a link from 127.0.0.1", agent_log);
    let all = objects(&said);
    assert_eq!(with(&all, "agent listening")["listen"], at);
    assert_eq!(with(&all, "agent listening")["role"], "agent");
    assert_eq!(with(&all, "a link from")["level"], "debug");
    let standby = with(&all, "standby for app of");
    assert_eq!(standby["role"], "standby");
    assert_eq!((&standby["run"], &standby["image"]), (&protected["run"], image));
    assert!(standby["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    // The standby, and then the image, have the run's own log.
    let run_log = || String::from_utf8_lossy(&b.ftvm(&["logs", "app"]).stdout).into_owned();
    wait_for("ready to take over", run_log);
    drop(primary);
    let all = objects(&wait_for("live after", run_log));
    let taking = with(&all, "taking over in epoch");
    assert_eq!(taking["role"], "standby");
    let later = taking["epoch"].as_u64().expect("an epoch");
    assert!(later > epoch);
    let live = with(&all, "live after");
    assert_eq!(live["role"], "primary");
    assert_eq!(live["epoch"], later);
    assert_eq!((&live["run"], &live["image"]), (&protected["run"], image));
    assert!(live["replay_us"].is_u64());
    assert!(
        live.get("peer").is_none(),
        "the peer was the primary that is dead"
    );
    assert_eq!(with(&all, "snapshot")["level"], "debug");
    drop(agent);
    objects(&agent_log());
}

#[test]
fn levels_and_forms_are_checked_and_text_is_as_ever() {
    let h = Host::new("levels");
    let at = free();
    let agent = h.start("text.log", &["agent", "--listen", &at, "--insecure"]);
    let said = wait_for("\n", || of_file(&h.0.join("text.log")));
    assert_eq!(said, format!("ftvm: agent listening on {at}\n"));
    // The address is in use: an error is all that is asked for.
    let again = ["agent", "--listen", &at, "--insecure", "--log-level", "error"];
    let out = h.ftvm(&again);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        said.starts_with(&format!("ftvm: agent: listening on {at}: ")),
        "{said}"
    );
    drop(agent);
    let quiet = h.start("quiet.log", &again);
    let listens = || std::net::TcpStream::connect(&at).map_or(String::new(), |_| "yes".to_string());
    wait_for("yes", listens);
    drop(quiet);
    assert_eq!(of_file(&h.0.join("quiet.log")), "");
    let out = h
        .command(&["agent", "--listen", &at, "--insecure"])
        .env("FTVM_LOG_LEVEL", "loud")
        .output()
        .expect("started");
    assert_eq!(out.status.code(), Some(2));
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(
        said,
        "ftvm: FTVM_LOG_LEVEL: \"loud\" is none of error, warn, info, debug\n"
    );
    // What ends a run tells its code too.
    let out = h.ftvm(&[
        "run",
        "--net",
        "none",
        "--log-format",
        "json",
        "--",
        "/no/such/program",
    ]);
    assert_eq!(out.status.code(), Some(127));
    let all = objects(&String::from_utf8_lossy(&out.stderr));
    assert_eq!(
        (all.len(), &all[0]["code"], &all[0]["exit"]),
        (1, &"not-found".into(), &127.into())
    );
    assert_eq!(
        (&all[0]["level"], &all[0]["role"]),
        (&"error".into(), &"run".into())
    );
    let out = h.ftvm(&["run", "--json", "--log-format", "json", "--", "/bin/true"]);
    assert_eq!(out.status.code(), Some(125));
}
