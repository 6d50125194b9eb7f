//! ftvm's own lines on stderr: for people, with `--log-format json` one object each with time, level and fields, or with `--json` one
//! each of another form. docs/errors.md lists the codes.
//!
//! Written by hand and not by a library: it also runs while the guest's vector registers are live. Daemons say what they say by
//! `tracing`, whose subscriber ([`crate::subscriber`]) has its lines from here; processes of an image call [`note`] and the like, and
//! never reach it: it needs thread-locals, and its memory is nobody's arena.
//!
//! A line is one write(2): processes that share stderr do not cut each other's lines.

use crate::alloc::{self, Side};
use crate::control::{self, Control};
use crate::protect::status::{Figure, PRIMARY, STANDBY};
use crate::sys;
use std::borrow::Cow;
use std::fmt::Write;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicUsize};

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub enum Level {
    /// Something has ended, or cannot be done.
    Error,
    /// Something is not as it should be, and goes on.
    Warn,
    /// What one wants to know.
    Info,
    /// What one wants to know in search of a fault.
    Debug,
}

/// How lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    /// `ftvm: ` and the message
    Text,
    /// An object a line
    Json,
    /// As `run --json` has it.
    #[value(skip)]
    Objects,
}

const FORMATS: [(Format, &str); 2] = [(Format::Text, "text"), (Format::Json, "json")];
const LEVELS: [(Level, &str); 4] = [
    (Level::Error, "error"),
    (Level::Warn, "warn"),
    (Level::Info, "info"),
    (Level::Debug, "debug"),
];

impl Format {
    /// Of a word.
    pub fn of(word: &str) -> Option<Format> {
        FORMATS.iter().find(|(_, name)| *name == word).map(|(f, _)| *f)
    }
}

impl Level {
    /// Of a word.
    pub fn of(word: &str) -> Option<Level> {
        LEVELS.iter().find(|(_, name)| *name == word).map(|(l, _)| *l)
    }

    fn name(self) -> &'static str {
        LEVELS[self as usize].1
    }
}

/// What a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// None of the others.
    None,
    Agent,
    Node,
    /// It supervises an image, or is of it, and there is no backup.
    Run,
    Standby,
    /// A migration's image comes to it.
    Target,
}

const ROLES: [&str; 6] = ["", "agent", "node", "run", "standby", "target"];

static FORMAT: AtomicU8 = AtomicU8::new(Format::Text as u8);
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);
static ROLE: AtomicU8 = AtomicU8::new(Role::None as u8);
static HOST: Word = Word::new();
static RUN: Word = Word::new();
static PEER: Word = Word::new();

/// What all lines of a process have. Not on any heap: every process of an image has its own copy, whatever arena runs.
struct Word {
    len: AtomicUsize,
    bytes: [AtomicU8; WORD],
}

/// As long as the names of hosts and runs can be.
const WORD: usize = 64;

impl Word {
    const fn new() -> Word {
        Word {
            len: AtomicUsize::new(0),
            bytes: [const { AtomicU8::new(0) }; WORD],
        }
    }

    /// A longer one is cut.
    fn set(&self, text: &str) {
        for (to, from) in self.bytes.iter().zip(text.bytes()) {
            to.store(from, Relaxed);
        }
        self.len.store(text.len().min(WORD), Release);
    }

    fn get(&self) -> String {
        let n = self.len.load(Acquire);
        let bytes: Vec<u8> = self.bytes[..n].iter().map(|b| b.load(Relaxed)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// How this process writes its lines, and which.
pub fn begin(format: Format, level: Level) {
    FORMAT.store(format as u8, Relaxed);
    LEVEL.store(level as u8, Relaxed);
    let mut name = [0u8; 65];
    // SAFETY: a buffer of that length; the last byte stays 0.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let len = name.iter().position(|b| *b == 0).unwrap_or(0);
    HOST.set(&String::from_utf8_lossy(&name[..len]));
}

/// From now on lines are as `--json` has them.
pub fn in_json() {
    FORMAT.store(Format::Objects as u8, Relaxed);
}

/// How lines are written.
pub fn format() -> Format {
    match FORMAT.load(Relaxed) {
        0 => Format::Text,
        1 => Format::Json,
        _ => Format::Objects,
    }
}

/// Lines of this level are written.
pub fn is_on(level: Level) -> bool {
    level as u8 <= LEVEL.load(Relaxed)
}

/// What this process is from now on.
pub fn set_role(role: Role) {
    ROLE.store(role as u8, Relaxed);
}

/// The run that this process is about.
pub fn set_run(name: &str) {
    RUN.set(name);
}

/// The host at the other end of this process' link.
pub fn set_peer(peer: &str) {
    PEER.set(peer);
}

/// Name under which a process hands all this on to those that it makes. The program does not see it.
pub const HANDED: &str = "FTVM_INTERNAL_LOG";

/// What is handed on.
pub fn handed() -> String {
    let format = FORMATS
        .iter()
        .find(|(f, _)| *f == format())
        .map_or("text", |f| f.1);
    let level = LEVELS[usize::from(LEVEL.load(Relaxed)).min(LEVELS.len() - 1)].1;
    format!("{format},{level},{}", RUN.get())
}

/// What was handed to this process.
pub fn take_on() -> Option<(Format, Level)> {
    let text = std::env::var(HANDED).ok()?;
    let mut parts = text.splitn(3, ',');
    let both = (Format::of(parts.next()?)?, Level::of(parts.next()?)?);
    set_run(parts.next()?);
    Some(both)
}

/// What a process that we started has said, without what a line has beside its message.
pub fn said(text: &str) -> String {
    let bare = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
        Ok(v) if v["message"].is_string() => v["message"].as_str().unwrap_or_default().to_string(),
        _ => line.strip_prefix("ftvm: ").unwrap_or(line).to_string(),
    };
    let all: Vec<String> = text.trim().lines().map(bare).collect();
    all.join("\n")
}

/// What went wrong, as a word that does not change: for errors whose exit code says enough.
pub fn code_of(exit: i32) -> &'static str {
    match exit {
        1 => "failed",
        2 => "usage",
        3 => "incompatible",
        4 => "diverged",
        126 => "not-executable",
        127 => "not-found",
        _ => "setup",
    }
}

/// A value of a field.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Value<'a> {
    Text(Cow<'a, str>),
    Number(i128),
    Bool(bool),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Value<'a> {
        Value::Text(text.into())
    }
}

impl From<i128> for Value<'_> {
    fn from(n: i128) -> Self {
        Value::Number(n)
    }
}

/// What a line says beside its message.
pub type Fields<'a> = [(&'a str, Value<'a>)];

/// An error that ends ftvm with this exit code.
pub fn error(code: &str, exit: i32, why: &str) {
    say(
        Level::Error,
        why,
        &[("code", code.into()), ("exit", i128::from(exit).into())],
    );
}

/// Something that the user should know.
pub fn note(what: &str) {
    say(Level::Info, what, &[]);
}

/// Something that is not as it should be.
pub fn warn(what: &str) {
    say(Level::Warn, what, &[]);
}

/// A line with fields.
pub fn say(level: Level, message: &str, fields: &Fields<'_>) {
    if is_on(level) {
        put(|| line(level, message, fields));
    }
}

/// Lines that have `ftvm: ` before them already. As an object they are one.
pub fn lines(level: Level, text: &str) {
    if !is_on(level) {
    } else if format() == Format::Text {
        sys::write_all(2, text.as_bytes());
    } else {
        put(|| {
            let bare: Vec<&str> = text
                .lines()
                .map(|l| l.strip_prefix("ftvm: ").unwrap_or(l).trim_end())
                .collect();
            line(level, &bare.join("\n"), &[])
        });
    }
}

/// A line that the user has asked for call by call (`--strace`).
pub fn trace(text: &str) {
    put(|| match format() {
        Format::Json => line(Level::Debug, text, &[]),
        Format::Text | Format::Objects => format!("{text}\n"),
    });
}

/// How a run ended, for `--json` only.
pub fn ended(exit: i32) {
    if format() == Format::Objects {
        put(|| format!("{{\"version\":1,\"kind\":\"exit\",\"exit\":{exit}}}\n"));
    }
}

fn put(make: impl FnOnce() -> String) {
    let _side = (!alloc::is_system()).then(|| alloc::enter(Side::Host));
    sys::write_all(2, make().as_bytes());
}

fn line(level: Level, message: &str, fields: &Fields<'_>) -> String {
    line_as(format(), level, message, fields)
}

/// A line as it is written, with its end.
pub fn line_as(format: Format, level: Level, message: &str, fields: &Fields<'_>) -> String {
    let mut out = String::new();
    match format {
        Format::Text => {
            out.push_str("ftvm: ");
            show(message, &mut out);
            out.push('\n');
        }
        Format::Objects => {
            let kind = if level == Level::Error { "error" } else { "note" };
            let _ = write!(out, r#"{{"version":1,"kind":"{kind}""#);
            for (name, value) in fields.iter().filter(|f| ["code", "exit"].contains(&f.0)) {
                member(name, value, &mut out);
            }
            member("message", &message.into(), &mut out);
            out.push_str("}\n");
        }
        Format::Json => {
            out.push_str(r#"{"time":""#);
            rfc3339(sys::clock_ns(libc::CLOCK_REALTIME), &mut out);
            let _ = write!(out, r#"","level":"{}""#, level.name());
            member("message", &message.into(), &mut out);
            // What the line itself says is newer.
            for (name, value) in standing() {
                if fields.iter().all(|f| f.0 != name) {
                    member(name, &value, &mut out);
                }
            }
            for (name, value) in fields {
                member(name, value, &mut out);
            }
            out.push_str("}\n");
        }
    }
    out
}

/// What this process knows of itself, as far as it does.
fn standing() -> Vec<(&'static str, Value<'static>)> {
    let word = |w: &Word| Some(Value::Text(w.get().into())).filter(|t| *t != "".into());
    let control = control::mapped();
    let figure = |f: Figure| control.map_or(0, |c: &Control| c.figures[f as usize].load(Relaxed));
    let protected = figure(Figure::Role);
    let role = match protected {
        PRIMARY => "primary",
        STANDBY => "standby",
        _ => ROLES[usize::from(ROLE.load(Relaxed)).min(ROLES.len() - 1)],
    };
    let known = |n: u64| (n != 0).then_some(n);
    let all = [
        ("host", word(&HOST)),
        ("pid", Some(i128::from(std::process::id()).into())),
        ("role", Some(role.into()).filter(|_| !role.is_empty())),
        ("run", word(&RUN)),
        ("image", known(figure(Figure::Image)).map(image)),
        (
            "epoch",
            known(figure(Figure::Epoch)).map(|e| i128::from(e).into()),
        ),
        ("peer", word(&PEER)),
    ];
    all.into_iter().filter_map(|(name, v)| Some((name, v?))).collect()
}

/// An image's identity as it is shown everywhere.
pub fn image(id: u64) -> Value<'static> {
    Value::Text(format!("{id:016x}").into())
}

/// Names of files, words of registries and what programs have printed are others': they do nothing to the user's terminal.
fn show(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
}

fn member(name: &str, value: &Value<'_>, out: &mut String) {
    out.push_str(",\"");
    escape(name, out);
    out.push_str("\":");
    let _ = match value {
        Value::Number(n) => write!(out, "{n}"),
        Value::Bool(b) => write!(out, "{b}"),
        Value::Text(t) => {
            out.push('"');
            escape(t, out);
            out.write_char('"')
        }
    };
}

/// Control characters behind ASCII too, which terminals obey.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            _ => out.push(c),
        }
    }
}

/// A time since 1970 as RFC 3339 has it, in UTC.
fn rfc3339(ns: u64, out: &mut String) {
    let (s, us) = (ns / 1_000_000_000, ns / 1000 % 1_000_000);
    let (mut days, second) = (s / 86_400, s % 86_400);
    // Eras of 400 years, which begin on a 1st of March: the leap day is a year's last.
    days += 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    let _ = write!(
        out,
        "{year:04}-{month:02}-{of_month:02}T{h:02}:{m:02}:{s:02}.{us:06}Z"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_json_strings() {
        let mut out = String::from("\"");
        escape("a\"b\\c\nd\u{e9}\u{1b}[2J\u{9b}\u{7f}", &mut out);
        out.push('"');
        assert!(!out.chars().any(char::is_control), "{out}");
        let back: String = serde_json::from_str(&out).unwrap();
        assert_eq!(back, "a\"b\\c\nd\u{e9}\u{1b}[2J\u{9b}\u{7f}");
    }

    #[test]
    fn nobody_elses_words_reach_a_terminal_as_orders() {
        let mut out = String::new();
        super::show("a\u{1b}[2J\u{9b}b\n\tc\u{e9}", &mut out);
        assert_eq!(out, "a\\u{1b}[2J\\u{9b}b\n\tc\u{e9}");
    }

    #[test]
    fn times_are_of_the_calendar() {
        let at = |s: u64| {
            let mut out = String::new();
            rfc3339(s * 1_000_000_000 + 123_456_789, &mut out);
            out
        };
        // As date -u -d @N has them.
        for (s, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (1_735_689_600, "2025-01-01T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(at(s), format!("{text}.123456Z"), "{s}");
        }
    }

    #[test]
    fn a_line_is_an_object_whatever_is_in_it() {
        let fields = [
            ("peer", "10.0.0.1:7\"}\n{".into()),
            ("n", i128::from(u64::MAX).into()),
            ("yes", Value::Bool(true)),
        ];
        let line = line_as(Format::Json, Level::Warn, "a \"b\"\nc\u{1b}", &fields);
        assert_eq!(line.find('\n'), Some(line.len() - 1), "{line}");
        let v: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&v["level"], &v["message"]),
            (&"warn".into(), &"a \"b\"\nc\u{1b}".into())
        );
        assert_eq!(v["peer"], "10.0.0.1:7\"}\n{");
        assert_eq!((&v["n"], &v["yes"]), (&u64::MAX.into(), &true.into()));
        assert_eq!(v["pid"], std::process::id());
        // What the line says is in the place of what the process knows, not beside it.
        let line = line_as(Format::Json, Level::Info, "", &[("pid", 1.into())]);
        assert_eq!(line.matches("\"pid\"").count(), 1, "{line}");
    }

    #[test]
    fn text_and_the_other_objects_are_as_ever() {
        let fields = [
            ("code", "setup".into()),
            ("exit", 125.into()),
            ("peer", "x".into()),
        ];
        let text = line_as(Format::Text, Level::Warn, "a line", &fields);
        assert_eq!(text, "ftvm: a line\n");
        let error = line_as(Format::Objects, Level::Error, "a line", &fields);
        assert_eq!(
            error,
            "{\"version\":1,\"kind\":\"error\",\"code\":\"setup\",\"exit\":125,\"message\":\"a line\"}\n"
        );
        let note = line_as(Format::Objects, Level::Warn, "a line", &[("peer", "x".into())]);
        assert_eq!(note, "{\"version\":1,\"kind\":\"note\",\"message\":\"a line\"}\n");
    }

    #[test]
    fn what_others_have_said_is_without_what_is_beside_it() {
        let mut text = line_as(Format::Json, Level::Error, "one", &[]);
        text += &line_as(Format::Text, Level::Error, "two", &[]);
        assert_eq!(said(&text), "one\ntwo");
        assert_eq!(said("7\n"), "7");
    }

    #[test]
    fn levels_and_forms_have_their_names() {
        use clap::ValueEnum;
        for (level, name) in LEVELS {
            assert_eq!((level.name(), Level::of(name)), (name, Some(level)));
            assert_eq!(Level::from_str(name, false), Ok(level));
        }
        for (format, name) in FORMATS {
            assert_eq!(Format::of(name), Some(format));
            assert_eq!(Format::from_str(name, false), Ok(format));
        }
        assert!(Format::from_str("objects", false).is_err());
    }

    #[test]
    fn words_that_are_too_long_are_cut() {
        let w = Word::new();
        w.set(&"x".repeat(WORD + 1));
        assert_eq!(w.get(), "x".repeat(WORD));
        w.set("short");
        assert_eq!(w.get(), "short");
    }
}
