//! The `#!` line, byte for byte as Linux's `fs/binfmt_script.c` reads it.
//!
//! Contract: only the first [`HEAD_LEN`] bytes count, as if the file were padded with NULs to that length. The
//! caller must pass at least that many if the file has them. The rules, in Linux's own order:
//! * the line ends at the first newline, unless a NUL comes before it;
//! * without a newline the interpreter's path must at least be followed by a blank or a NUL, else it may be cut off
//!   and the file is refused; a cut-off argument is accepted;
//! * blanks (space and tab) before the path, between path and argument and at the end are dropped; all the rest,
//!   blanks inside included, is one argument;
//! * as both are C strings, they end at a NUL. An argument may so be present and empty.

use thiserror::Error;

/// How many bytes of the file Linux looks at (`BINPRM_BUF_SIZE`).
pub const HEAD_LEN: usize = 256;

/// The interpreter that a script names. Linux then runs `interp [arg] script-path original-argv[1..]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Path of the interpreter; never empty unless a NUL follows the `#!` (opening it then fails with ENOENT).
    pub interp: Vec<u8>,
    /// The one optional argument.
    pub arg: Option<Vec<u8>>,
}

/// Why a file that begins with `#!` cannot be run; `ENOEXEC` to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ScriptError {
    /// Nothing but blanks after the `#!`.
    #[error("script names no interpreter after #!")]
    NoInterpreter,
    /// The path may go on beyond the bytes that the kernel reads.
    #[error("script's interpreter path does not end within {HEAD_LEN} bytes")]
    TruncatedPath,
}

/// Parses the start of a file. `None` if it does not begin with `#!`.
pub fn parse(head: &[u8]) -> Option<Result<Script, ScriptError>> {
    if !head.starts_with(b"#!") {
        return None;
    }
    let mut buf = [0u8; HEAD_LEN];
    let len = head.len().min(HEAD_LEN);
    buf[..len].copy_from_slice(&head[..len]);
    Some(parse_line(&buf))
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The position of the first byte in `buf[from..=last]` for which `test` holds.
fn find(buf: &[u8; HEAD_LEN], from: usize, last: usize, test: impl Fn(u8) -> bool) -> Option<usize> {
    (from..=last).find(|&at| test(buf[at]))
}

fn parse_line(buf: &[u8; HEAD_LEN]) -> Result<Script, ScriptError> {
    let buf_end = HEAD_LEN - 1;
    let terminator = |byte| is_blank(byte) || byte == 0;
    let newline = buf
        .iter()
        .position(|&byte| byte == b'\n' || byte == 0)
        .filter(|&at| buf[at] == b'\n');
    let mut end = match newline {
        Some(at) => at,
        None => {
            let name = find(buf, 2, buf_end, |byte| !is_blank(byte)).ok_or(ScriptError::NoInterpreter)?;
            find(buf, name, buf_end, terminator).ok_or(ScriptError::TruncatedPath)?;
            buf_end
        }
    };
    // Stops at the '!' at the latest.
    while is_blank(buf[end - 1]) {
        end -= 1;
    }
    let name = find(buf, 2, end, |byte| !is_blank(byte))
        .filter(|&at| at != end)
        .ok_or(ScriptError::NoInterpreter)?;
    let separator = find(buf, name, end, terminator).filter(|&at| buf[at] != 0);
    let arg = separator.and_then(|at| find(buf, at, end, |byte| !is_blank(byte)));
    // Linux writes a NUL at `end` and, if there is an argument, at the separator.
    let c_string = |from: usize, to: usize| -> Vec<u8> {
        buf[from..to]
            .iter()
            .copied()
            .take_while(|&byte| byte != 0)
            .collect()
    };
    let name_end = if arg.is_some() {
        separator.unwrap_or(end)
    } else {
        end
    };
    Ok(Script {
        interp: c_string(name, name_end),
        arg: arg.map(|at| c_string(at, end.max(at))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(head: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
        let script = parse(head).unwrap().unwrap();
        (script.interp, script.arg)
    }

    fn pair(interp: &str, arg: Option<&str>) -> (Vec<u8>, Option<Vec<u8>>) {
        (interp.into(), arg.map(Into::into))
    }

    #[test]
    fn usual_lines() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"#"), None);
        assert_eq!(parse(b"\x7fELF"), None);
        assert_eq!(ok(b"#!/bin/sh\necho"), pair("/bin/sh", None));
        assert_eq!(ok(b"#! \t/bin/sh \t \n"), pair("/bin/sh", None));
        assert_eq!(
            ok(b"#!/usr/bin/env -S a  b \n"),
            pair("/usr/bin/env", Some("-S a  b"))
        );
        assert_eq!(ok(b"#!/bin/sh\r\n"), pair("/bin/sh\r", None));
    }

    #[test]
    fn without_a_newline() {
        assert_eq!(ok(b"#!/bin/sh"), pair("/bin/sh", None));
        assert_eq!(ok(b"#!/bin/sh -x"), pair("/bin/sh", Some("-x")));
        // Linux 6: the padding NUL counts as the start of an argument.
        assert_eq!(ok(b"#!/bin/sh "), pair("/bin/sh", Some("")));
    }

    #[test]
    fn refused() {
        assert_eq!(parse(b"#!\n"), Some(Err(ScriptError::NoInterpreter)));
        assert_eq!(parse(b"#! \t \n/bin/sh\n"), Some(Err(ScriptError::NoInterpreter)));
        let mut blank = vec![b' '; 300];
        blank[..2].copy_from_slice(b"#!");
        assert_eq!(parse(&blank), Some(Err(ScriptError::NoInterpreter)));
        let mut long = vec![b'a'; 300];
        long[..3].copy_from_slice(b"#!/");
        assert_eq!(parse(&long), Some(Err(ScriptError::TruncatedPath)));
    }

    #[test]
    fn cut_off_argument_is_accepted() {
        let mut long = b"#!/bin/sh ".to_vec();
        long.resize(300, b'a');
        let (interp, arg) = ok(&long);
        assert_eq!(
            (interp.as_slice(), arg.unwrap().len()),
            (&b"/bin/sh"[..], HEAD_LEN - 1 - 10)
        );
    }
}
