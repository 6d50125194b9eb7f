//! A process stopped by the host's kernel right after execve: the reference for mapping plans and initial stacks.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A traced child that has executed nothing yet. Killed on drop.
pub struct Stopped {
    child: Child,
}

/// One line of /proc/PID/maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vma {
    pub start: u64,
    pub end: u64,
    pub prot: u32,
    pub offset: u64,
    pub path: String,
}

impl Stopped {
    /// Runs `path` up to its first instruction, with exactly these arguments (`argv[0]` included) and environment. Its
    /// output is caught.
    pub fn at_exec(path: &str, argv: &[Vec<u8>], envp: &[Vec<u8>]) -> Stopped {
        let mut command = Command::new(path);
        command.stdout(Stdio::piped());
        command.env_clear();
        if let Some((first, rest)) = argv.split_first() {
            command.arg0(OsStr::from_bytes(first));
            command.args(rest.iter().map(|arg| OsStr::from_bytes(arg)));
        }
        for entry in envp {
            let at = entry.iter().position(|&b| b == b'=').expect("NAME=value");
            command.env(
                OsStr::from_bytes(&entry[..at]),
                OsStr::from_bytes(&entry[at + 1..]),
            );
        }
        // SAFETY: both calls are async-signal-safe and take no pointers that matter.
        unsafe {
            command.pre_exec(|| {
                libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
                if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("spawn");
        let mut status = 0;
        // SAFETY: `status` outlives the call; the child is ours.
        let got = unsafe { libc::waitpid(child.id() as i32, &mut status, 0) };
        assert!(
            got == child.id() as i32 && libc::WIFSTOPPED(status),
            "stopped at exec: {status:#x}"
        );
        Stopped { child }
    }

    /// The mappings of the process.
    pub fn maps(&self) -> Vec<Vma> {
        let text = std::fs::read_to_string(format!("/proc/{}/maps", self.child.id())).unwrap();
        text.lines().map(parse_vma).collect()
    }

    /// Memory of the process.
    pub fn read(&self, addr: u64, len: usize) -> Vec<u8> {
        let mem = std::fs::File::open(format!("/proc/{}/mem", self.child.id())).unwrap();
        let mut out = vec![0; len];
        mem.read_exact_at(&mut out, addr).unwrap();
        out
    }

    /// Writes memory of the process, its text included.
    pub fn write(&self, addr: u64, bytes: &[u8]) {
        let mem = std::fs::File::options()
            .write(true)
            .open(format!("/proc/{}/mem", self.child.id()))
            .unwrap();
        mem.write_all_at(bytes, addr).unwrap();
    }

    /// Makes the process do one system call, and returns its result.
    pub fn syscall(&self, number: u64, args: [u64; 6]) -> u64 {
        let pid = self.child.id() as i32;
        // SAFETY: ptrace of our own stopped child; the structures outlive the calls.
        unsafe {
            let mut saved: libc::user_regs_struct = std::mem::zeroed();
            assert_eq!(libc::ptrace(libc::PTRACE_GETREGS, pid, 0, &raw mut saved), 0);
            let text = self.read(saved.rip, 3);
            self.write(saved.rip, &[0x0f, 0x05, 0xcc]);
            let mut regs = saved;
            (regs.rax, regs.orig_rax) = (number, u64::MAX);
            [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
            assert_eq!(libc::ptrace(libc::PTRACE_SETREGS, pid, 0, &raw mut regs), 0);
            assert_eq!(libc::ptrace(libc::PTRACE_CONT, pid, 0, 0), 0);
            let mut status = 0;
            assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
            assert!(
                libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP,
                "{status:#x}"
            );
            assert_eq!(libc::ptrace(libc::PTRACE_GETREGS, pid, 0, &raw mut regs), 0);
            self.write(saved.rip, &text);
            assert_eq!(libc::ptrace(libc::PTRACE_SETREGS, pid, 0, &raw mut saved), 0);
            regs.rax
        }
    }

    /// Lets the process run to its end; returns its output and exit code.
    pub fn finish(mut self) -> (Vec<u8>, Option<i32>) {
        // SAFETY: ptrace of our own stopped child.
        let detached = unsafe { libc::ptrace(libc::PTRACE_DETACH, self.child.id() as i32, 0, 0) };
        assert_eq!(detached, 0);
        let mut out = Vec::new();
        self.child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
        (out, self.child.wait().unwrap().code())
    }

    /// The auxiliary vector as pairs, without AT_NULL.
    pub fn auxv(&self) -> Vec<(u64, u64)> {
        let bytes = std::fs::read(format!("/proc/{}/auxv", self.child.id())).unwrap();
        let word = |b: &[u8]| u64::from_le_bytes(b.try_into().unwrap());
        bytes
            .chunks_exact(16)
            .map(|c| (word(&c[..8]), word(&c[8..])))
            .take_while(|c| c.0 != 0)
            .collect()
    }

    /// arg_start, arg_end, env_start, env_end of /proc/PID/stat.
    pub fn stat_strings(&self) -> [u64; 4] {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let rest = text.rsplit(')').next().unwrap();
        // Field 3 is the first after the name; these are fields 48 to 51.
        let fields: Vec<u64> = rest
            .split_whitespace()
            .skip(45)
            .take(4)
            .map(|f| f.parse().unwrap())
            .collect();
        fields.try_into().unwrap()
    }

    /// The stack pointer.
    pub fn sp(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/syscall", self.child.id())).unwrap();
        let mut fields = text.split_whitespace().rev();
        let _rip = fields.next();
        u64::from_str_radix(fields.next().unwrap().trim_start_matches("0x"), 16).unwrap()
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse_vma(line: &str) -> Vma {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next().unwrap().split_once('-').unwrap();
    let perms = fields.next().unwrap().as_bytes();
    let hex = |s: &str| u64::from_str_radix(s, 16).unwrap();
    let offset = hex(fields.next().unwrap());
    let path = fields.nth(2).unwrap_or("").to_string();
    let prot = [b'r', b'w', b'x']
        .iter()
        .enumerate()
        .fold(0, |p, (i, c)| p | (u32::from(perms[i] == *c) << i));
    Vma {
        start: hex(start),
        end: hex(end),
        prot,
        offset,
        path,
    }
}

/// Compiles a C program once per test run and returns its path.
pub fn compile(name: &str, compiler: &str, flags: &[&str], source: &str) -> String {
    let dir = env!("CARGO_TARGET_TMPDIR");
    let out = format!("{dir}/fixture-{name}");
    let input = format!("{dir}/fixture-{name}.c");
    std::fs::write(&input, source).unwrap();
    let status = Command::new(compiler)
        .args(["-O1", "-w", "-o", &out, &input])
        .args(flags)
        .status()
        .unwrap();
    assert!(status.success(), "{compiler} {flags:?}");
    out
}

/// AT_* numbers used by the tests.
pub mod at {
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const BASE: u64 = 7;
    pub const ENTRY: u64 = 9;
    pub const PLATFORM: u64 = 15;
    pub const RANDOM: u64 = 25;
    pub const EXECFN: u64 = 31;
}
