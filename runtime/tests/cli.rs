//! The command line from outside: exit codes, messages, run state. `docs/errors.md` is what it checks.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Output};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("ftvm-cli-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        Place(dir)
    }

    fn ftvm(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ftvm"))
            .args(args)
            .current_dir(&self.0)
            .env("XDG_RUNTIME_DIR", &self.0)
            .output()
            .unwrap()
    }

    fn file(&self, name: &str, bytes: &[u8], mode: u32) {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Exit code and one line on stderr with these words.
    fn refused(&self, args: &[&str], code: i32, words: &str) {
        let out = self.ftvm(args);
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
        assert!(
            err.starts_with("ftvm: ") && err.lines().count() == 1,
            "{args:?}: {err}"
        );
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A header of an x86-64 program with one program header that loads nothing.
fn elf() -> Vec<u8> {
    let mut b = vec![0u8; 120];
    b[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    b[16] = 2;
    b[18] = 62;
    b[20] = 1;
    b[24..32].copy_from_slice(&0x40_0000u64.to_le_bytes());
    b[32] = 64;
    b[52] = 64;
    b[54] = 56;
    b[56] = 1;
    b
}

#[test]
fn what_is_no_program_is_126_with_one_line() {
    let p = Place::new("elf");
    let with = |at: usize, v: u8| {
        let mut b = elf();
        b[at] = v;
        b
    };
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("empty", Vec::new(), "truncated"),
        ("text", b"hello\n".to_vec(), "not an ELF file"),
        (
            "short",
            elf()[..40].to_vec(),
            "truncated: ELF file header ends at byte 64",
        ),
        ("headers", elf()[..80].to_vec(), "truncated"),
        ("arm", with(18, 183), "aarch64"),
        ("i386", with(4, 1), "32-bit"),
        ("object", with(16, 1), "relocatable object file"),
        ("nothing", elf(), "no loadable segment"),
    ];
    for (name, bytes, words) in cases {
        p.file(name, &bytes, 0o755);
        p.refused(&["run", &format!("./{name}")], 126, words);
    }
    p.file("plain", &elf(), 0o644);
    p.refused(&["run", "./plain"], 126, "permission denied");
    p.file("script", b"#!/no/such/interpreter\n", 0o755);
    p.refused(&["run", "./script"], 127, "/no/such/interpreter: no such file");
}

#[test]
fn what_is_not_there_is_127() {
    let p = Place::new("none");
    p.refused(&["run", "./nope"], 127, "./nope: no such file");
    p.refused(&["run", "ftvm-has-no-such-command"], 127, "not found");
}

#[test]
fn options_are_checked_before_anything_runs() {
    let p = Place::new("options");
    p.refused(&["run", "-v", "/usr", "true"], 125, "write HOST:GUEST");
    p.refused(
        &["run", "-v", "/no/such:/x", "true"],
        125,
        "/no/such: No such file",
    );
    p.refused(&["run", "--rootfs", "/no/such", "true"], 125, "--rootfs /no/such");
    p.refused(&["run", "-w", "/no/such", "true"], 126, "directory /no/such");
    for args in [
        &["run", "--nope", "true"][..],
        &["run"],
        &["run", "--memory", "1x", "true"],
    ] {
        assert_eq!(p.ftvm(args).status.code(), Some(125), "{args:?}");
    }
    assert_eq!(p.ftvm(&["nope"]).status.code(), Some(2));
    assert_eq!(p.ftvm(&["compat"]).status.code(), Some(2));
}

#[test]
fn the_status_is_the_programs() {
    let p = Place::new("status");
    assert_eq!(p.ftvm(&["run", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(
        p.ftvm(&["run", "sh", "-c", "kill -TERM $$"]).status.code(),
        Some(143)
    );
    let out = p.ftvm(&[
        "run",
        "-e",
        "A=b",
        "-w",
        "/usr",
        "--hostname",
        "foo",
        "sh",
        "-c",
        "echo $A $PWD; uname -n",
    ]);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "b /usr\nfoo\n");
    let out = p.ftvm(&["run", "sh", "-c", "echo kept > here; echo lost > /ftvm-test-lost"]);
    let err = String::from_utf8_lossy(&out.stderr);
    if out.status.success() {
        assert!(err.contains("1 file written outside"), "{err}");
    }
    assert_eq!(std::fs::read_to_string(p.0.join("here")).unwrap(), "kept\n");
    assert!(!PathBuf::from("/ftvm-test-lost").exists());
}

#[test]
fn named_runs_are_listed_stopped_and_removed() {
    let p = Place::new("named");
    let text = |o: &Output| String::from_utf8_lossy(&o.stdout).into_owned();
    assert_eq!(
        text(&p.ftvm(&["run", "-d", "--name", "one", "sh", "-c", "echo hi; sleep 100"])),
        "one\n"
    );
    p.refused(&["run", "-d", "--name", "one", "true"], 125, "in use");
    p.refused(&["rm", "one"], 1, "is running");
    for _ in 0..100 {
        if text(&p.ftvm(&["logs", "one"])) == "hi\n" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(text(&p.ftvm(&["logs", "one"])), "hi\n");
    assert!(text(&p.ftvm(&["ps"])).contains("one "));
    assert_eq!(p.ftvm(&["stop", "one"]).status.code(), Some(0));
    assert!(!text(&p.ftvm(&["ps"])).contains("one "));
    assert!(text(&p.ftvm(&["ps", "-a"])).contains("exited (143)"));
    p.refused(&["kill", "one"], 1, "not running");
    assert_eq!(p.ftvm(&["rm", "one"]).status.code(), Some(0));
    p.refused(&["logs", "one"], 1, "no run is named one");
}

#[test]
fn compat_reads_strace() {
    let p = Place::new("compat");
    p.file("log", b"7 read(0, \"\", 1) = 0\n7 io_setup(1, 0x1) = 0\n", 0o600);
    let out = p.ftvm(&["compat", "--strace-log", "log"]);
    assert_eq!(out.status.code(), Some(7), "a call without support");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        text.contains("io_setup") && text.contains("supported: read"),
        "{text}"
    );
}
