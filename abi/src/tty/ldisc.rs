//! The line discipline (drivers/tty/n_tty.c): what typed characters become, and what written ones do.
//!
//! Pure: characters in, characters and signals out. Both the echo and processed output go to `out`.

use super::termios::{Termios, cc, iflag, lflag, oflag};
use std::collections::VecDeque;

/// Longest line that is kept (N_TTY_BUF_SIZE).
const MAX_INPUT: usize = 4095;

/// A signal for the foreground group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// SIGINT
    Interrupt,
    /// SIGQUIT
    Quit,
    /// SIGTSTP
    Suspend,
}

/// State of one terminal.
#[derive(Default)]
pub struct Ldisc {
    /// Settings.
    pub termios: Termios,
    /// The line that is being typed.
    edit: Vec<u8>,
    /// Finished lines; an empty one is an end of file.
    lines: VecDeque<Vec<u8>>,
    /// Input without line editing.
    raw: VecDeque<u8>,
    literal: bool,
    /// Output is stopped (^S).
    pub stopped: bool,
    column: usize,
    /// Column where the typed line began.
    start: usize,
}

impl Ldisc {
    /// Bytes that a read could take now (FIONREAD).
    pub fn available(&self) -> usize {
        if self.termios.canonical() {
            self.lines.iter().map(Vec::len).sum()
        } else {
            self.raw.len()
        }
    }

    /// A read would not wait.
    pub fn readable(&self) -> bool {
        if self.termios.canonical() {
            return !self.lines.is_empty();
        }
        let min = if self.termios.cc[cc::TIME] == 0 {
            self.termios.cc[cc::MIN]
        } else {
            1
        };
        self.raw.len() >= usize::from(min.max(1))
    }

    /// The other side may send more.
    pub fn has_room(&self) -> bool {
        self.termios.canonical() || self.raw.len() < MAX_INPUT
    }

    /// Takes up to `max` bytes; `None`: nothing yet. `force` ends a wait for VMIN bytes.
    pub fn take(&mut self, max: usize, force: bool) -> Option<Vec<u8>> {
        if self.termios.canonical() {
            let mut line = self.lines.pop_front()?;
            if line.len() > max {
                self.lines.push_front(line.split_off(max));
            }
            return Some(line);
        }
        let min = usize::from(self.termios.cc[cc::MIN]).min(max.max(1));
        if self.raw.len() < min && (!force || self.raw.is_empty()) {
            return None;
        }
        let n = self.raw.len().min(max);
        Some(self.raw.drain(..n).collect())
    }

    /// Puts bytes back that could not be stored.
    pub fn untake(&mut self, rest: Vec<u8>) {
        if self.termios.canonical() {
            self.lines.push_front(rest);
        } else {
            for b in rest.into_iter().rev() {
                self.raw.push_front(b);
            }
        }
    }

    /// Drops all input.
    pub fn flush(&mut self) {
        self.edit.clear();
        self.lines.clear();
        self.raw.clear();
    }

    /// New settings. What was typed stays readable.
    pub fn set(&mut self, new: Termios) {
        let was = self.termios.canonical();
        self.termios = new;
        if was && !new.canonical() {
            for l in std::mem::take(&mut self.lines) {
                self.raw.extend(l);
            }
            let edit = std::mem::take(&mut self.edit);
            self.raw.extend(edit);
        } else if !was && new.canonical() && !self.raw.is_empty() {
            self.lines.push_back(self.raw.drain(..).collect());
        }
        if new.iflag & iflag::IXON == 0 {
            self.stopped = false;
        }
    }

    /// One typed character.
    pub fn input(&mut self, c: u8, out: &mut Vec<u8>) -> Option<Key> {
        let t = self.termios;
        let mut c = c;
        if t.iflag & iflag::ISTRIP != 0 {
            c &= 0x7f;
        }
        if std::mem::take(&mut self.literal) {
            self.echo_char(c, out);
            self.store(c);
            return None;
        }
        if t.iflag & iflag::IXON != 0 {
            if t.is(cc::START, c) {
                self.stopped = false;
                return None;
            }
            if t.is(cc::STOP, c) {
                self.stopped = true;
                return None;
            }
            if t.iflag & iflag::IXANY != 0 {
                self.stopped = false;
            }
        }
        if t.local(lflag::ISIG) {
            let key = if t.is(cc::INTR, c) {
                Some(Key::Interrupt)
            } else if t.is(cc::QUIT, c) {
                Some(Key::Quit)
            } else if t.is(cc::SUSP, c) {
                Some(Key::Suspend)
            } else {
                None
            };
            if key.is_some() {
                if !t.local(lflag::NOFLSH) {
                    self.flush();
                }
                self.stopped = false;
                if t.local(lflag::ECHO) {
                    self.echo_char(c, out);
                }
                return key;
            }
        }
        match c {
            b'\r' if t.iflag & iflag::IGNCR != 0 => return None,
            b'\r' if t.iflag & iflag::ICRNL != 0 => c = b'\n',
            b'\n' if t.iflag & iflag::INLCR != 0 => c = b'\r',
            _ => {}
        }
        if t.canonical() {
            self.edit_char(c, out);
        } else {
            if t.local(lflag::ECHO) {
                self.echo_char(c, out);
            }
            self.store(c);
        }
        None
    }

    fn store(&mut self, c: u8) {
        if self.termios.canonical() {
            if self.edit.len() < MAX_INPUT {
                if self.edit.is_empty() {
                    self.start = self.column;
                }
                self.edit.push(c);
            }
        } else if self.raw.len() < MAX_INPUT * 16 {
            self.raw.push_back(c);
        }
    }

    fn edit_char(&mut self, c: u8, out: &mut Vec<u8>) {
        let t = self.termios;
        let extended = t.local(lflag::IEXTEN);
        if t.is(cc::ERASE, c) {
            self.erase_one(out);
        } else if extended && t.is(cc::WERASE, c) {
            let mut seen = false;
            while let Some(last) = self.edit.last() {
                let word = last.is_ascii_alphanumeric() || *last == b'_' || *last >= 0x80;
                if !word && seen {
                    break;
                }
                seen |= word;
                self.erase_one(out);
            }
        } else if t.is(cc::KILL, c) {
            if t.local(lflag::ECHOKE) && t.local(lflag::ECHOE) && t.local(lflag::ECHO) {
                while !self.edit.is_empty() {
                    self.erase_one(out);
                }
            } else {
                self.edit.clear();
                if t.local(lflag::ECHO) {
                    self.echo_char(c, out);
                    if t.local(lflag::ECHOK) {
                        self.echo_char(b'\n', out);
                    }
                }
            }
        } else if extended && t.is(cc::LNEXT, c) {
            self.literal = true;
            if t.local(lflag::ECHO) && t.local(lflag::ECHOCTL) {
                out.extend_from_slice(b"^\x08");
            }
        } else if extended && t.is(cc::REPRINT, c) && t.local(lflag::ECHO) {
            self.echo_char(c, out);
            self.echo_char(b'\n', out);
            for b in self.edit.clone() {
                self.echo_char(b, out);
            }
        } else if c == b'\n' {
            if t.local(lflag::ECHO) || t.local(lflag::ECHONL) {
                self.output_char(b'\n', out);
            }
            self.finish(Some(c));
        } else if t.is(cc::EOF, c) {
            self.finish(None);
        } else if t.is(cc::EOL, c) || extended && t.is(cc::EOL2, c) {
            if t.local(lflag::ECHO) {
                self.echo_char(c, out);
            }
            self.finish(Some(c));
        } else {
            self.store(c);
            if t.local(lflag::ECHO) {
                self.echo_char(c, out);
            }
        }
    }

    fn finish(&mut self, end: Option<u8>) {
        let mut line = std::mem::take(&mut self.edit);
        line.extend(end);
        self.lines.push_back(line);
    }

    fn width(&self, c: u8, at: usize) -> usize {
        match c {
            b'\t' => 8 - at % 8,
            0..0x20 | 0x7f if self.termios.local(lflag::ECHOCTL) => 2,
            0..0x20 | 0x7f => 0,
            // The later bytes of a UTF-8 character take no room.
            0x80..0xc0 if self.termios.iflag & iflag::IUTF8 != 0 => 0,
            _ => 1,
        }
    }

    fn erase_one(&mut self, out: &mut Vec<u8>) {
        let utf8 = self.termios.iflag & iflag::IUTF8 != 0;
        let mut gone = Vec::new();
        while let Some(b) = self.edit.pop() {
            gone.push(b);
            if !utf8 || b & 0xc0 != 0x80 {
                break;
            }
        }
        let Some(first) = gone.last().copied() else {
            return;
        };
        if !self.termios.local(lflag::ECHO) {
            return;
        }
        if !self.termios.local(lflag::ECHOE) {
            let erase = self.termios.cc[cc::ERASE];
            self.echo_char(erase, out);
            return;
        }
        let mut at = self.start;
        for b in &self.edit {
            at += self.width(*b, at);
        }
        let w = self.width(first, at);
        for _ in 0..w {
            out.extend_from_slice(if first == b'\t' { b"\x08" } else { b"\x08 \x08" });
        }
        self.column = self.column.saturating_sub(w);
    }

    fn echo_char(&mut self, c: u8, out: &mut Vec<u8>) {
        let control = c < 0x20 && c != b'\n' && c != b'\t' || c == 0x7f;
        if control && self.termios.local(lflag::ECHOCTL) {
            out.extend_from_slice(&[b'^', c ^ 0x40]);
            self.column += 2;
        } else {
            self.output_char(c, out);
        }
    }

    /// One written character.
    fn output_char(&mut self, c: u8, out: &mut Vec<u8>) {
        let o = self.termios.oflag;
        if o & oflag::OPOST == 0 {
            out.push(c);
            return;
        }
        match c {
            b'\n' => {
                if o & oflag::ONLCR != 0 {
                    out.push(b'\r');
                    self.column = 0;
                }
                if o & oflag::ONLRET != 0 {
                    self.column = 0;
                }
                out.push(b'\n');
            }
            b'\r' if o & oflag::ONOCR != 0 && self.column == 0 => {}
            b'\r' if o & oflag::OCRNL != 0 => out.push(b'\n'),
            b'\r' => {
                self.column = 0;
                out.push(b'\r');
            }
            b'\t' => {
                let n = 8 - self.column % 8;
                self.column += n;
                if o & oflag::XTABS == oflag::XTABS {
                    out.extend(std::iter::repeat_n(b' ', n));
                } else {
                    out.push(b'\t');
                }
            }
            8 => {
                self.column = self.column.saturating_sub(1);
                out.push(c);
            }
            _ => {
                self.column += self.width(c, self.column).min(1);
                out.push(c);
            }
        }
    }

    /// Written bytes as they leave.
    pub fn output(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for b in bytes {
            self.output_char(*b, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(l: &mut Ldisc, s: &[u8]) -> (Vec<u8>, Vec<Key>) {
        let mut out = Vec::new();
        let keys = s.iter().filter_map(|c| l.input(*c, &mut out)).collect();
        (out, keys)
    }

    #[test]
    fn a_line_is_edited_and_echoed() {
        let mut l = Ldisc::default();
        let (out, keys) = typed(&mut l, b"ab\x7fc\r");
        assert_eq!(out, b"ab\x08 \x08c\r\n");
        assert!(keys.is_empty());
        assert_eq!(l.take(100, false), Some(b"ac\n".to_vec()));
        assert_eq!(l.take(100, false), None);
    }

    #[test]
    fn interrupt_flushes_and_end_of_file_is_one_empty_read() {
        let mut l = Ldisc::default();
        let (out, keys) = typed(&mut l, b"ab\x03");
        assert_eq!(
            (out.as_slice(), keys.as_slice()),
            (&b"ab^C"[..], &[Key::Interrupt][..])
        );
        typed(&mut l, b"x\x04\x04");
        assert_eq!(l.take(9, false), Some(b"x".to_vec()));
        assert_eq!(l.take(9, false), Some(Vec::new()));
        assert_eq!(l.take(9, false), None);
    }

    #[test]
    fn raw_input_waits_for_vmin() {
        let mut l = Ldisc::default();
        let mut t = l.termios;
        t.lflag = 0;
        t.cc[cc::MIN] = 3;
        l.set(t);
        typed(&mut l, b"ab");
        assert_eq!(l.take(9, false), None);
        typed(&mut l, b"\x03");
        assert_eq!(l.take(9, false), Some(b"ab\x03".to_vec()));
    }
}
