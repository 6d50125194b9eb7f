//! ftvm's own lines on stderr: for people, or with `--json` one object each. docs/errors.md lists the codes.
//!
//! Written by hand and not by a library: it also runs while the guest's vector registers are live.

use crate::alloc::{self, Side};
use crate::sys;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static JSON: AtomicBool = AtomicBool::new(false);

/// From now on lines are JSON objects.
pub fn in_json() {
    JSON.store(true, Relaxed);
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

/// An error that ends ftvm with this exit code.
pub fn error(code: &str, exit: i32, why: &str) {
    say(why, |out| {
        let _ = write!(out, r#""kind":"error","code":"{code}","exit":{exit}"#);
    });
}

/// Something that the user should know.
pub fn note(what: &str) {
    say(what, |out| out.push_str(r#""kind":"note""#));
}

/// How a run ended, for `--json` only.
pub fn ended(exit: i32) {
    if JSON.load(Relaxed) {
        let line = format!("{{\"version\":1,\"kind\":\"exit\",\"exit\":{exit}}}\n");
        sys::write_all(2, line.as_bytes());
    }
}

fn say(what: &str, head: impl FnOnce(&mut String)) {
    let _side = (!alloc::is_system()).then(|| alloc::enter(Side::Host));
    let mut out = String::new();
    if JSON.load(Relaxed) {
        out.push_str(r#"{"version":1,"#);
        head(&mut out);
        out.push_str(r#","message":""#);
        escape(what, &mut out);
        out.push_str("\"}\n");
    } else {
        out.push_str("ftvm: ");
        show(what, &mut out);
        out.push('\n');
    }
    sys::write_all(2, out.as_bytes());
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

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            _ => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn messages_are_json_strings() {
        let mut out = String::from("\"");
        super::escape("a\"b\\c\nd\u{e9}", &mut out);
        out.push('"');
        let back: String = serde_json::from_str(&out).unwrap();
        assert_eq!(back, "a\"b\\c\nd\u{e9}");
    }

    #[test]
    fn nobody_elses_words_reach_a_terminal_as_orders() {
        let mut out = String::new();
        super::show("a\u{1b}[2J\u{9b}b\n\tc\u{e9}", &mut out);
        assert_eq!(out, "a\\u{1b}[2J\\u{9b}b\n\tc\u{e9}");
    }
}
