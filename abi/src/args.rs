//! Typed arguments of system calls: how a register becomes a value, and how `--strace` shows it.

use std::fmt::Write;

/// A type that a system-call argument register can hold.
pub trait Arg: Copy {
    /// Takes the value from the register as the kernel's prototype would.
    fn from_reg(raw: u64) -> Self;
    /// Appends what `--strace` prints; `peek` reads a string from the guest.
    fn show(raw: u64, out: &mut String, peek: &mut Peek<'_>);
}

/// Reads a NUL-terminated string from guest memory, if there is one.
pub type Peek<'a> = dyn FnMut(u64) -> Option<Vec<u8>> + 'a;

macro_rules! int_arg {
    ($($t:ty),*) => {$(
        impl Arg for $t {
            fn from_reg(raw: u64) -> $t {
                // The ABI passes narrow integers in the low bits and leaves the rest undefined.
                raw as $t
            }
            fn show(raw: u64, out: &mut String, _: &mut Peek<'_>) {
                let _ = write!(out, "{}", raw as $t);
            }
        }
    )*};
}
int_arg!(i32, u32, i64, u64, usize);

/// A guest address: an allegation until a copy succeeds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Ptr(pub u64);

impl Ptr {
    /// NULL?
    pub fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl Arg for Ptr {
    fn from_reg(raw: u64) -> Ptr {
        Ptr(raw)
    }
    fn show(raw: u64, out: &mut String, _: &mut Peek<'_>) {
        let _ = if raw == 0 {
            write!(out, "NULL")
        } else {
            write!(out, "{raw:#x}")
        };
    }
}

/// A NUL-terminated path in guest memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path(pub u64);

impl Arg for Path {
    fn from_reg(raw: u64) -> Path {
        Path(raw)
    }
    fn show(raw: u64, out: &mut String, peek: &mut Peek<'_>) {
        match peek(raw) {
            Some(p) => {
                let _ = write!(out, "{:?}", String::from_utf8_lossy(&p));
            }
            None => Ptr::show(raw, out, peek),
        }
    }
}

/// A file descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fd(pub i32);

impl Arg for Fd {
    fn from_reg(raw: u64) -> Fd {
        Fd(raw as i32)
    }
    fn show(raw: u64, out: &mut String, _: &mut Peek<'_>) {
        let _ = match raw as i32 {
            -100 => write!(out, "AT_FDCWD"),
            fd => write!(out, "{fd}"),
        };
    }
}

/// Flags and masks, shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bits(pub u64);

impl Arg for Bits {
    fn from_reg(raw: u64) -> Bits {
        Bits(raw)
    }
    fn show(raw: u64, out: &mut String, _: &mut Peek<'_>) {
        let _ = write!(out, "{raw:#x}");
    }
}
