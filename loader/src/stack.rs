//! The initial stack of a process, as Linux's `fs/exec.c` and `create_elf_tables` lay it out.
//!
//! From the top down: eight zero bytes, the path that exec was given, environment strings, argument strings (each
//! with its NUL, the first at the lowest address), up to 15 bytes of alignment, platform string, 16 random bytes, up to
//! 15 bytes of alignment, auxiliary vector, environment pointers, argument pointers, argc. The stack pointer is at argc
//! and 16-byte aligned.
//!
//! Contract: [`build`] is pure and total; what it returns is `top - sp` bytes that belong at `sp`. Address
//! randomisation is the caller's business (choose `top`).

use thiserror::Error;

/// `MAX_ARG_STRLEN`: the longest single string, NUL included.
pub const STRING_MAX: usize = 131_072;

const AT_NULL: u64 = 0;
const AT_PLATFORM: u64 = 15;
const AT_RANDOM: u64 = 25;
const AT_EXECFN: u64 = 31;

/// What goes onto the stack.
#[derive(Debug, Clone)]
pub struct StackSpec<'a> {
    /// End of the stack; the highest byte written is `top - 1`.
    pub top: u64,
    /// Arguments without NULs. If empty, one empty string is passed instead, as Linux does since 5.18.
    pub argv: &'a [Vec<u8>],
    /// Environment strings without NULs.
    pub envp: &'a [Vec<u8>],
    /// AT_EXECFN: the path that exec was given (for a script, the script's).
    pub execfn: &'a [u8],
    /// AT_RANDOM's 16 bytes.
    pub random: [u8; 16],
    /// AT_PLATFORM: `x86_64`.
    pub platform: &'a [u8],
    /// All other entries, in order. AT_RANDOM, AT_EXECFN, AT_PLATFORM and AT_NULL follow them.
    pub aux: Vec<(u64, u64)>,
}

/// A finished stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Initial stack pointer; argc is there.
    pub sp: u64,
    /// The bytes from `sp` to `top`.
    pub bytes: Vec<u8>,
    /// First byte of the argument strings (`/proc/self/stat`, `/proc/self/cmdline`).
    pub arg_start: u64,
    /// End of the argument strings.
    pub arg_end: u64,
    /// First byte of the environment strings.
    pub env_start: u64,
    /// End of the environment strings.
    pub env_end: u64,
    /// The auxiliary vector with its AT_NULL (`/proc/self/auxv`).
    pub auxv: Vec<u8>,
}

/// Why there is no stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StackError {
    /// Strings and their pointers exceed the limit: `E2BIG`.
    #[error("arguments and environment take {need} bytes, the limit is {limit}")]
    TooBig {
        /// Bytes of all strings and of the pointers to them.
        need: u64,
        /// The limit given.
        limit: u64,
    },
    /// One string exceeds [`STRING_MAX`]: `E2BIG`.
    #[error("one argument or environment string has {len} bytes, the limit is 131071")]
    StringTooLong {
        /// Its length without NUL.
        len: usize,
    },
    /// A string holds a NUL.
    #[error("argument, environment, path or platform string holds a NUL byte")]
    InteriorNul,
    /// The auxiliary vector names an entry that the builder adds itself.
    #[error("auxiliary entry {0} is added by the builder")]
    ReservedAux(u64),
    /// The stack does not fit below `top`.
    #[error("stack of {len} bytes does not fit below {top:#x}")]
    NoRoom {
        /// Its length.
        len: u64,
        /// The top given.
        top: u64,
    },
}

/// The limit that Linux derives from RLIMIT_STACK: a quarter of it, between 128 KiB and 6 MiB.
pub fn limit_for(rlimit_stack: u64) -> u64 {
    (rlimit_stack / 4).clamp(131_072, 6 << 20)
}

/// Lays out the stack. `limit` bounds the strings (path included) and the pointers to arguments and environment
/// together, as [`limit_for`] computes it.
pub fn build(spec: &StackSpec<'_>, limit: u64) -> Result<Built, StackError> {
    let empty = [Vec::new()];
    let argv = if spec.argv.is_empty() {
        &empty[..]
    } else {
        spec.argv
    };
    check(spec, argv, limit)?;

    let mut stack = Downward {
        top: spec.top,
        reversed: Vec::new(),
    };
    stack.push(&[0; 8])?;
    let execfn = stack.push_string(spec.execfn)?;
    let env_end = execfn;
    let envp = push_strings(&mut stack, spec.envp)?;
    let env_start = stack.sp();
    let args = push_strings(&mut stack, argv)?;
    let arg_start = stack.sp();
    stack.align()?;
    let platform = stack.push_string(spec.platform)?;
    let random = stack.push(&spec.random)?;

    let mut auxv = Vec::with_capacity((spec.aux.len() + 4) * 16);
    let own = [
        (AT_RANDOM, random),
        (AT_EXECFN, execfn),
        (AT_PLATFORM, platform),
        (AT_NULL, 0),
    ];
    for &(kind, value) in spec.aux.iter().chain(&own) {
        auxv.extend_from_slice(&kind.to_le_bytes());
        auxv.extend_from_slice(&value.to_le_bytes());
    }
    let pointers = std::iter::once(args.len() as u64)
        .chain(args)
        .chain(std::iter::once(0))
        .chain(envp)
        .chain(std::iter::once(0));
    let mut table: Vec<u8> = pointers.flat_map(u64::to_le_bytes).collect();
    table.extend_from_slice(&auxv);
    // The table's start is aligned, so the gap is above it.
    let gap = stack.sp().wrapping_sub(table.len() as u64) % 16;
    stack.push(&[0; 16][..gap as usize])?;
    let sp = stack.push(&table)?;
    assert!(
        sp % 16 == 0 && spec.top - sp == stack.reversed.len() as u64,
        "aligned and complete"
    );

    let mut bytes = stack.reversed;
    bytes.reverse();
    Ok(Built {
        sp,
        bytes,
        arg_start,
        arg_end: env_start,
        env_start,
        env_end,
        auxv,
    })
}

fn check(spec: &StackSpec<'_>, argv: &[Vec<u8>], limit: u64) -> Result<(), StackError> {
    let mut need = 0u64;
    let strings = argv.iter().chain(spec.envp).map(Vec::as_slice);
    for string in strings.chain([spec.execfn]) {
        if string.len() >= STRING_MAX {
            return Err(StackError::StringTooLong { len: string.len() });
        }
        if string.contains(&0) {
            return Err(StackError::InteriorNul);
        }
        need += string.len() as u64 + 1;
    }
    need += 8 * (argv.len() + spec.envp.len()) as u64;
    if need > limit {
        return Err(StackError::TooBig { need, limit });
    }
    if spec.platform.contains(&0) {
        return Err(StackError::InteriorNul);
    }
    match spec
        .aux
        .iter()
        .find(|entry| [AT_NULL, AT_PLATFORM, AT_RANDOM, AT_EXECFN].contains(&entry.0))
    {
        Some(entry) => Err(StackError::ReservedAux(entry.0)),
        None => Ok(()),
    }
}

/// Pushes strings so that the first ends up lowest; returns their addresses in order.
fn push_strings(stack: &mut Downward, strings: &[Vec<u8>]) -> Result<Vec<u64>, StackError> {
    let mut addrs = strings
        .iter()
        .rev()
        .map(|string| stack.push_string(string))
        .collect::<Result<Vec<_>, _>>()?;
    addrs.reverse();
    Ok(addrs)
}

/// Memory that grows down from `top`, held back to front.
struct Downward {
    top: u64,
    reversed: Vec<u8>,
}

impl Downward {
    fn sp(&self) -> u64 {
        self.top - self.reversed.len() as u64
    }

    fn push(&mut self, bytes: &[u8]) -> Result<u64, StackError> {
        let len = (self.reversed.len() + bytes.len()) as u64;
        if len > self.top {
            return Err(StackError::NoRoom { len, top: self.top });
        }
        self.reversed.extend(bytes.iter().rev());
        Ok(self.sp())
    }

    fn push_string(&mut self, string: &[u8]) -> Result<u64, StackError> {
        self.push(&[0])?;
        self.push(string)
    }

    fn align(&mut self) -> Result<(), StackError> {
        let gap = self.sp() % 16;
        self.push(&[0; 16][..gap as usize])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec<'a>(argv: &'a [Vec<u8>], envp: &'a [Vec<u8>]) -> StackSpec<'a> {
        let aux = vec![(6, 4096), (33, 0x7000)];
        StackSpec {
            top: 0x7fff_0000,
            argv,
            envp,
            execfn: b"/bin/x",
            random: [7; 16],
            platform: b"x86_64",
            aux,
        }
    }

    fn word(built: &Built, addr: u64) -> u64 {
        let at = (addr - built.sp) as usize;
        u64::from_le_bytes(built.bytes[at..at + 8].try_into().unwrap())
    }

    fn string(built: &Built, addr: u64) -> &[u8] {
        built.bytes[(addr - built.sp) as usize..]
            .split(|&b| b == 0)
            .next()
            .unwrap()
    }

    #[test]
    fn all_is_where_a_program_looks() {
        for extra in 0..20 {
            let argv = [b"x".to_vec(), vec![b'y'; extra]];
            let envp = [b"A=1".to_vec(), b"B=".to_vec(), b"LONG=value".to_vec()];
            let built = build(&spec(&argv, &envp), 1 << 20).unwrap();
            assert_eq!(built.sp % 16, 0);
            assert_eq!(built.sp + built.bytes.len() as u64, 0x7fff_0000);
            assert_eq!(word(&built, built.sp), 2);
            let args: Vec<u64> = (1..=2).map(|i| word(&built, built.sp + 8 * i)).collect();
            assert_eq!(string(&built, args[0]), b"x");
            assert_eq!(string(&built, args[1]), argv[1]);
            assert_eq!(word(&built, built.sp + 24), 0);
            assert_eq!(string(&built, word(&built, built.sp + 48)), b"LONG=value");
            assert_eq!(word(&built, built.sp + 56), 0);
            let aux_at = built.sp + 64;
            let at = (aux_at - built.sp) as usize;
            assert_eq!(built.bytes[at..at + built.auxv.len()], built.auxv);
            assert_eq!(word(&built, aux_at + 8), 4096);
            assert_eq!(word(&built, aux_at + 32), AT_RANDOM);
            assert_eq!(
                built.bytes[(word(&built, aux_at + 40) - built.sp) as usize..][..16],
                [7; 16]
            );
            assert_eq!(string(&built, word(&built, aux_at + 56)), b"/bin/x");
            assert_eq!(string(&built, word(&built, aux_at + 72)), b"x86_64");
            assert_eq!(
                (built.arg_start, built.arg_end),
                (args[0], args[1] + extra as u64 + 1)
            );
            assert_eq!(built.env_start, built.arg_end);
            assert_eq!(built.env_end, word(&built, built.sp + 48) + 11);
            assert_eq!(built.bytes[built.bytes.len() - 8..], [0; 8]);
        }
    }

    #[test]
    fn an_empty_argv_becomes_one_empty_string() {
        let built = build(&spec(&[], &[]), 1 << 20).unwrap();
        assert_eq!(word(&built, built.sp), 1);
        assert_eq!(string(&built, word(&built, built.sp + 8)), b"");
        assert_eq!(
            (built.arg_end - built.arg_start, built.env_end - built.env_start),
            (1, 0)
        );
    }

    #[test]
    fn limits() {
        let argv = [vec![b'a'; 90]];
        // 91 for the argument, 7 for the path, 8 for the pointer.
        assert!(build(&spec(&argv, &[]), 106).is_ok());
        assert_eq!(
            build(&spec(&argv, &[]), 105),
            Err(StackError::TooBig {
                need: 106,
                limit: 105
            })
        );
        let argv = [vec![b'a'; STRING_MAX]];
        assert_eq!(
            build(&spec(&argv, &[]), u64::MAX),
            Err(StackError::StringTooLong { len: STRING_MAX })
        );
        let mut low = spec(&[], &[]);
        low.top = 100;
        assert!(matches!(
            build(&low, 1 << 20),
            Err(StackError::NoRoom { top: 100, .. })
        ));
        assert_eq!(limit_for(8 << 20), 2 << 20);
        assert_eq!((limit_for(0), limit_for(u64::MAX)), (131_072, 6 << 20));
    }

    #[test]
    fn refused() {
        let argv = [b"a\0b".to_vec()];
        assert_eq!(build(&spec(&argv, &[]), 1 << 20), Err(StackError::InteriorNul));
        let mut twice = spec(&[], &[]);
        twice.aux.push((AT_RANDOM, 1));
        assert_eq!(build(&twice, 1 << 20), Err(StackError::ReservedAux(AT_RANDOM)));
    }
}
