//! `replay --gdb` with the real gdb in batch mode.

use super::{LIMIT, ftvm, run};
use ftl_ci::bounded;
use ftl_ci::place::{self, Scratch};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn program(scratch: &Scratch, source: &str) -> PathBuf {
    let from = place::repository().join("ci/tests/record").join(source);
    let to = scratch.side().join(source.trim_end_matches(".c"));
    let cc = Command::new("gcc")
        .args(["-std=gnu11", "-O0", "-g", "-pthread", "-o"])
        .args([&to, &from])
        .status();
    assert!(cc.is_ok_and(|s| s.success()), "compiling {source}");
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
    let mut out = Vec::new();
    let printed = replay.stdout.take().expect("a pipe").read_to_end(&mut out);
    printed.expect("its output");
    let out = String::from_utf8_lossy(&out).into_owned();
    let code = replay.wait().expect("it ends").code();
    let mut rest = String::new();
    let _ = said.read_to_string(&mut rest);
    (format!("{text}\nreplay said: {line}{rest}"), out, code)
}

#[test]
fn gdb_looks_into_a_replay() {
    let scratch = Scratch::new().expect("a directory");
    let program = program(&scratch, "looked_at.c");
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
        // About to end: here one may still go back.
        "No more reverse-execution history",
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

/// Breakpoints stay in the text during calls that look elsewhere, and only then.
#[test]
fn a_program_does_not_see_breakpoints() {
    let scratch = Scratch::new().expect("a directory");
    let program = program(&scratch, "own_text.c");
    let log = scratch.side().join("log");
    let recorded = run(ftvm(
        &scratch,
        &[&"record", &"--check-memory", &"-o", &log, &"--", &program],
    ));
    assert_eq!(recorded.code, 0, "{}", recorded.tail());
    let expected = String::from_utf8_lossy(&recorded.stdout).into_owned();
    let commands = &[
        "break hit",
        // In the middle of it too, so that no call's arguments begin there.
        "break *hit+11",
        "continue",
        "continue",
        "continue",
        "backtrace",
        "x/2xb hit",
        "delete 2",
        "continue",
        "delete",
        "continue",
        "continue",
    ];
    // A breakpoint at the very address, where gdb would set it behind the prologue.
    let exact = &["break *hit", "ignore 1 100", "continue", "continue"];
    let none: &[&str] = &["continue", "continue"];
    for commands in [commands as &[&str], exact, none] {
        let (text, out, code) = session(&scratch, &log, &program, commands);
        assert!(text.contains("exited normally"), "{text}");
        assert_eq!((out.as_str(), code), (expected.as_str(), Some(0)), "{text}");
        assert!(
            commands[0] != "break hit" || text.contains("in through_a_file ()"),
            "{text}"
        );
    }
}

/// Records `reversed.c`: its path, the log, what it printed.
fn recorded(scratch: &Scratch, options: &[&str]) -> (PathBuf, PathBuf, String) {
    let program = program(scratch, "reversed.c");
    let log = scratch.side().join("log");
    let mut c = ftvm(scratch, &[&"record", &"--check-memory", &"-o", &log]);
    c.args(options).arg("--").arg(&program);
    let recorded = run(c);
    assert_eq!(recorded.code, 128 + 6, "{}", recorded.tail());
    (
        program,
        log,
        String::from_utf8_lossy(&recorded.stdout).into_owned(),
    )
}

/// All of these are in the text, in this order.
fn in_order(text: &str, wanted: &[&str]) {
    let mut rest = text;
    for want in wanted {
        match rest.split_once(want) {
            Some((_, behind)) => rest = behind,
            None => panic!("no {want:?} where it should be in:\n{text}"),
        }
    }
}

/// What was printed between the marks of this name.
fn marked<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    text.split(start.as_str())
        .skip(1)
        .map(|part| part.split_once(end.as_str()).map_or("", |(inside, _)| inside))
        .collect()
}

/// Who has overwritten this? From the crash back to the write, and forward to the same crash again.
fn corruption_is_found(options: &[&str]) -> String {
    let scratch = Scratch::new().expect("a directory");
    let (program, log, printed) = recorded(&scratch, options);
    let (text, out, code) = session(
        &scratch,
        &log,
        &program,
        &[
            "continue",
            "print account.balance",
            "watch account.balance",
            "reverse-continue",
            "reverse-continue",
            "reverse-continue",
            "reverse-continue",
            "reverse-continue",
            "reverse-continue",
            "reverse-continue",
            "reverse-continue",
            "print i",
            "backtrace",
            "info threads",
            "reverse-continue",
            "print account.balance",
            "x/i $pc",
            "delete",
            "continue",
            "print account.balance",
            "continue",
        ],
    );
    // Eight letters too many, each written as one byte.
    in_order(
        &text,
        &[
            "received signal SIGABRT",
            "$1 = 7308620310547557985\n",
            "Hardware watchpoint 1: account.balance",
            "Old value = 7308620310547557985\nNew value = 30803312716836449\n",
            "Old value = 97\nNew value = 100\n",
            "account.name[i] = from[i]",
            "$2 = 16\n",
            " in set_name (from=",
            "#1  0x",
            "in main () at",
            "Thread 1",
            "No more reverse-execution history",
            "$3 = 100\n",
            "received signal SIGABRT",
            "$4 = 7308620310547557985\n",
            "terminated with signal SIGABRT",
        ],
    );
    assert!(!text.contains("No symbol"), "{text}");
    // Nothing was printed twice, or lost.
    assert_eq!((out.as_str(), code), (printed.as_str(), Some(0)), "{text}");
    text
}

#[test]
fn gdb_goes_back_to_who_overwrote_it() {
    corruption_is_found(&[]);
}

/// The replays start from anchors then; gdb sees the same.
#[test]
fn gdb_goes_back_over_anchors() {
    let scratch = Scratch::new().expect("a directory");
    let (_, log, _) = recorded(&scratch, &["--anchor-every", "event:60"]);
    assert!(
        super::anchors::anchors(&log).len() >= 4,
        "too few anchors for this test"
    );
    drop(scratch);
    corruption_is_found(&["--anchor-every", "event:60"]);
}

/// Every point that a step back comes to is the one that the step forward left: registers, stack and data, over system calls.
#[test]
fn steps_back_undo_steps() {
    const STEPS: usize = 45;
    let scratch = Scratch::new().expect("a directory");
    let (program, log, printed) = recorded(&scratch, &["--anchor-every", "event:20"]);
    let look =
        "echo <s>\ninfo registers\nx/24gx $sp\nprint account\nprint turns\nprint $xmm0.uint128\necho </s>";
    let mut commands: Vec<&str> = vec!["break second", "continue", "delete"];
    commands.extend(look.split('\n'));
    for _ in 0..STEPS {
        commands.push("stepi");
        commands.extend(look.split('\n'));
    }
    for _ in 0..STEPS {
        commands.push("reverse-stepi");
        commands.extend(look.split('\n'));
    }
    commands.extend(["continue", "continue"]);
    let (text, out, code) = session(&scratch, &log, &program, &commands);
    // Values in gdb's history have other numbers each time.
    let plain = |s: &str| -> String {
        let lines = s.lines().map(|l| {
            l.split_once(" = ")
                .filter(|_| l.starts_with('$'))
                .map_or(l, |(_, v)| v)
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let states: Vec<String> = marked(&text, "s").into_iter().map(plain).collect();
    assert_eq!(states.len(), 2 * STEPS + 1, "{text}");
    let mut seen = std::collections::BTreeSet::new();
    for i in 0..=STEPS {
        assert!(states[i].contains("rip "), "{text}");
        assert_eq!(states[i], states[2 * STEPS - i], "step {i} is not undone");
        seen.insert(states[i].as_str());
    }
    assert!(seen.len() > STEPS / 2, "the steps go nowhere:\n{text}");
    assert!(text.contains("syscall"), "no call on the way:\n{text}");
    assert!(text.contains("terminated with signal SIGABRT"), "{text}");
    assert_eq!((out.as_str(), code), (printed.as_str(), Some(0)), "{text}");
}

/// Lines, calls and breakpoints backwards; the beginning; the same end as without.
#[test]
fn gdb_goes_back_by_lines_and_breakpoints() {
    let scratch = Scratch::new().expect("a directory");
    let (program, log, printed) = recorded(&scratch, &[]);
    let commands = [
        "break first",
        "break second",
        "continue",
        "continue",
        "print turns",
        "reverse-continue",
        "print turns",
        "continue",
        "print turns",
        "delete",
        "finish",
        "reverse-next",
        "print turns",
        "next",
        "print turns",
        "reverse-step",
        "print turns",
        "reverse-step",
        "print turns",
        "reverse-step",
        "reverse-finish",
        "print turns",
        "reverse-finish",
        "print turns",
        "reverse-continue",
        "print turns",
        "reverse-continue",
        "reverse-stepi",
        "continue",
        "continue",
    ];
    let (text, out, code) = session(&scratch, &log, &program, &commands);
    in_order(
        &text,
        &[
            "Breakpoint 1, first",
            "Breakpoint 2, second (n=10)",
            "$1 = 1\n",
            "Breakpoint 1, first",
            "$2 = 0\n",
            "Breakpoint 2, second (n=10)",
            "$3 = 1\n",
            // Over a call and back.
            "main () at ",
            "second(10);\n",
            "$4 = 1\n",
            "for (long i",
            "$5 = 13\n",
            // Into it from behind, to a line before, and into a call of its own.
            "second (n=10) at ",
            "}\n$6 = 13\n",
            "turns += 2;\n$7 = 11\n",
            "say (text=",
            "say(\"second\\n\");\n$8 = 11\n",
            "second(10);\n$9 = 1\n",
            "No more reverse-execution history",
            "$10 = 0\n",
            "No more reverse-execution history",
            "No more reverse-execution history",
            "received signal SIGABRT",
            "terminated with signal SIGABRT",
        ],
    );
    assert_eq!((out.as_str(), code), (printed.as_str(), Some(0)), "{text}");
}

/// What two threads write is found in the order in which they wrote it, and threads are told apart.
#[test]
fn gdb_goes_back_through_threads() {
    let scratch = Scratch::new().expect("a directory");
    let (program, log, printed) = recorded(&scratch, &[]);
    let mut commands = vec![
        "break set_name",
        "continue",
        "delete",
        "watch sums[0]",
        "watch sums[1]",
    ];
    for _ in 0..6 {
        commands.extend([
            "reverse-continue",
            "echo <b>",
            "print $_thread > 1",
            "print sums",
            "echo </b>",
        ]);
    }
    commands.push("reverse-stepi");
    commands.push("stepi");
    commands.extend([
        "echo <t>",
        "print sums",
        "echo </t>",
        "delete",
        "continue",
        "continue",
    ]);
    let (text, out, code) = session(&scratch, &log, &program, &commands);
    let states = marked(&text, "b");
    assert_eq!(states.len(), 6, "{text}");
    let mut sums = Vec::new();
    for s in states {
        assert!(s.contains(" = 1\n"), "the main thread writes no sum:\n{text}");
        let (_, list) = s.split_once('{').unwrap_or_default();
        let list = list.split_once('}').unwrap_or_default().0;
        let pair: Vec<i32> = list.split(", ").filter_map(|n| n.parse().ok()).collect();
        assert_eq!(pair.len(), 2, "{text}");
        sums.push((pair[0], pair[1]));
    }
    assert_eq!(sums.last(), Some(&(0, 0)), "{text}");
    let mut later = (6, 6);
    for s in sums {
        let less = (later.0 - s.0, later.1 - s.1);
        assert!(
            less.0 == 0 && [1, 2, 3].contains(&less.1) || less.1 == 0 && [1, 2, 3].contains(&less.0),
            "one write is between two stops: {later:?}, {s:?}\n{text}"
        );
        later = s;
    }
    assert!(marked(&text, "t")[0].contains("{0, 0}"), "{text}");
    assert!(text.contains("terminated with signal SIGABRT"), "{text}");
    assert_eq!((out.as_str(), code), (printed.as_str(), Some(0)), "{text}");
}
