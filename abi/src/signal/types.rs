//! Numbers, masks, siginfo and actions (asm/signal.h, asm-generic/siginfo.h).

/// Numbers (asm/signal.h).
#[allow(missing_docs)]
pub mod sig {
    pub const SIGHUP: u32 = 1;
    pub const SIGINT: u32 = 2;
    pub const SIGQUIT: u32 = 3;
    pub const SIGILL: u32 = 4;
    pub const SIGTRAP: u32 = 5;
    pub const SIGABRT: u32 = 6;
    pub const SIGBUS: u32 = 7;
    pub const SIGFPE: u32 = 8;
    pub const SIGKILL: u32 = 9;
    pub const SIGUSR1: u32 = 10;
    pub const SIGSEGV: u32 = 11;
    pub const SIGUSR2: u32 = 12;
    pub const SIGPIPE: u32 = 13;
    pub const SIGALRM: u32 = 14;
    pub const SIGTERM: u32 = 15;
    pub const SIGSTKFLT: u32 = 16;
    pub const SIGCHLD: u32 = 17;
    pub const SIGCONT: u32 = 18;
    pub const SIGSTOP: u32 = 19;
    pub const SIGTSTP: u32 = 20;
    pub const SIGTTIN: u32 = 21;
    pub const SIGTTOU: u32 = 22;
    pub const SIGURG: u32 = 23;
    pub const SIGXCPU: u32 = 24;
    pub const SIGXFSZ: u32 = 25;
    pub const SIGVTALRM: u32 = 26;
    pub const SIGPROF: u32 = 27;
    pub const SIGWINCH: u32 = 28;
    pub const SIGIO: u32 = 29;
    pub const SIGPWR: u32 = 30;
    pub const SIGSYS: u32 = 31;
    pub const SIGRTMIN: u32 = 32;
    pub const SIGRTMAX: u32 = 64;
}

/// Bit of a signal in a mask.
pub const fn bit(sig: u32) -> u64 {
    1 << (sig - 1)
}

/// SIGKILL and SIGSTOP cannot be blocked, caught or ignored.
pub const UNBLOCKABLE: u64 = bit(sig::SIGKILL) | bit(sig::SIGSTOP);
/// Signals whose default action stops (SIG_KERNEL_STOP_MASK).
pub const STOPS: u64 = bit(sig::SIGSTOP) | bit(sig::SIGTSTP) | bit(sig::SIGTTIN) | bit(sig::SIGTTOU);
/// Signals whose default action does nothing (SIG_KERNEL_IGNORE_MASK).
pub const IGNORES: u64 = bit(sig::SIGCONT) | bit(sig::SIGCHLD) | bit(sig::SIGWINCH) | bit(sig::SIGURG);
/// Raised by the thread's own instruction; delivered first (SYNCHRONOUS_MASK).
pub const SYNCHRONOUS: u64 = bit(sig::SIGSEGV)
    | bit(sig::SIGBUS)
    | bit(sig::SIGILL)
    | bit(sig::SIGTRAP)
    | bit(sig::SIGFPE)
    | bit(sig::SIGSYS);
/// Signals whose default action would leave a core file (SIG_KERNEL_COREDUMP_MASK).
pub const CORES: u64 =
    SYNCHRONOUS | bit(sig::SIGQUIT) | bit(sig::SIGABRT) | bit(sig::SIGXCPU) | bit(sig::SIGXFSZ);

/// Name for messages.
pub fn name(signo: u32) -> String {
    const NAMES: [&str; 32] = [
        "0", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU",
        "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    match NAMES.get(signo as usize) {
        Some(n) => format!("SIG{n}"),
        None => format!("SIGRT{}", signo.wrapping_sub(34) as i32),
    }
}

/// si_code values.
#[allow(missing_docs)]
pub mod code {
    pub const SI_USER: i32 = 0;
    pub const SI_KERNEL: i32 = 0x80;
    pub const SI_QUEUE: i32 = -1;
    pub const SI_TIMER: i32 = -2;
    pub const SI_MESGQ: i32 = -3;
    pub const SI_ASYNCIO: i32 = -4;
    pub const SI_SIGIO: i32 = -5;
    pub const SI_TKILL: i32 = -6;
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const CLD_EXITED: i32 = 1;
    pub const CLD_KILLED: i32 = 2;
    pub const CLD_DUMPED: i32 = 3;
    pub const CLD_TRAPPED: i32 = 4;
    pub const CLD_STOPPED: i32 = 5;
    pub const CLD_CONTINUED: i32 = 6;
}

/// Bytes of siginfo_t.
pub const SIGINFO_LEN: usize = 128;

/// A queued signal: siginfo_t's head and the first 32 bytes of its union, as words. Linux keeps no
/// more of it either (`struct kernel_siginfo`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SigInfo {
    /// si_signo
    pub signo: u32,
    /// si_errno
    pub errno: i32,
    /// si_code
    pub code: i32,
    /// Bytes 16..48 of siginfo_t.
    pub words: [u64; 4],
}

const fn two(lo: u32, hi: u32) -> u64 {
    lo as u64 | (hi as u64) << 32
}

impl SigInfo {
    /// From the kernel itself, without a sender (SEND_SIG_PRIV).
    pub fn kernel(signo: u32) -> SigInfo {
        SigInfo {
            signo,
            code: code::SI_KERNEL,
            ..SigInfo::default()
        }
    }
    /// kill(2); with SI_TKILL, tgkill(2).
    pub fn user(signo: u32, code: i32, pid: u32, uid: u32) -> SigInfo {
        SigInfo {
            signo,
            code,
            words: [two(pid, uid), 0, 0, 0],
            ..SigInfo::default()
        }
    }
    /// A value with its sender (sigqueue, mq_notify).
    pub fn queue(signo: u32, code: i32, pid: u32, uid: u32, value: u64) -> SigInfo {
        SigInfo {
            signo,
            code,
            words: [two(pid, uid), value, 0, 0],
            ..SigInfo::default()
        }
    }
    /// A fault of the thread's own instruction.
    pub fn fault(signo: u32, code: i32, addr: u64) -> SigInfo {
        SigInfo {
            signo,
            code,
            words: [addr, 0, 0, 0],
            ..SigInfo::default()
        }
    }
    /// SIGCHLD: `code` is CLD_*, times in clock ticks.
    pub fn child(signo: u32, code: i32, pid: u32, uid: u32, status: i32, utime: u64, stime: u64) -> SigInfo {
        SigInfo {
            signo,
            code,
            words: [two(pid, uid), u64::from(status as u32), utime, stime],
            ..SigInfo::default()
        }
    }
    /// SIGIO: `code` is POLL_*.
    pub fn poll(signo: u32, code: i32, band: u64, fd: i32) -> SigInfo {
        SigInfo {
            signo,
            code,
            words: [band, u64::from(fd as u32), 0, 0],
            ..SigInfo::default()
        }
    }
    /// A POSIX timer.
    pub fn timer(signo: u32, id: i32, value: u64) -> SigInfo {
        SigInfo {
            signo,
            code: code::SI_TIMER,
            words: [two(id as u32, 0), value, 0, 0],
            ..SigInfo::default()
        }
    }
    /// si_pid (or si_timerid).
    pub fn pid(&self) -> u32 {
        self.words[0] as u32
    }
    /// si_uid (or si_overrun).
    pub fn uid(&self) -> u32 {
        (self.words[0] >> 32) as u32
    }
    /// si_addr
    pub fn addr(&self) -> u64 {
        self.words[0]
    }
    /// si_value
    pub fn value(&self) -> u64 {
        self.words[1]
    }
    /// si_status
    pub fn status(&self) -> i32 {
        self.words[1] as i32
    }
    /// Sets si_overrun.
    pub fn set_overrun(&mut self, n: i32) {
        self.words[0] = two(self.pid(), n as u32);
    }
    /// Raised by an instruction of the thread itself.
    pub fn is_fault(&self) -> bool {
        self.code > 0 && bit(self.signo) & SYNCHRONOUS != 0
    }
    /// As siginfo_t.
    pub fn to_bytes(&self) -> [u8; SIGINFO_LEN] {
        let mut b = [0; SIGINFO_LEN];
        b[0..4].copy_from_slice(&self.signo.to_le_bytes());
        b[4..8].copy_from_slice(&self.errno.to_le_bytes());
        b[8..12].copy_from_slice(&self.code.to_le_bytes());
        for (i, w) in self.words.iter().enumerate() {
            b[16 + i * 8..24 + i * 8].copy_from_slice(&w.to_le_bytes());
        }
        b
    }
    /// From siginfo_t.
    pub fn from_bytes(b: &[u8; SIGINFO_LEN]) -> SigInfo {
        let int = |at: usize| i32::from_le_bytes(std::array::from_fn(|i| b[at + i]));
        SigInfo {
            signo: int(0) as u32,
            errno: int(4),
            code: int(8),
            words: std::array::from_fn(|w| u64::from_le_bytes(std::array::from_fn(|i| b[16 + w * 8 + i]))),
        }
    }
}

/// sa_flags.
#[allow(missing_docs)]
pub mod sa {
    pub const NOCLDSTOP: u64 = 1;
    pub const NOCLDWAIT: u64 = 2;
    pub const SIGINFO: u64 = 4;
    pub const EXPOSE_TAGBITS: u64 = 0x800;
    pub const RESTORER: u64 = 0x0400_0000;
    pub const ONSTACK: u64 = 0x0800_0000;
    pub const RESTART: u64 = 0x1000_0000;
    pub const NODEFER: u64 = 0x4000_0000;
    pub const RESETHAND: u64 = 0x8000_0000;
    /// All that the kernel knows; others are cleared so that a program can find out.
    pub const KNOWN: u64 =
        NOCLDSTOP | NOCLDWAIT | SIGINFO | EXPOSE_TAGBITS | RESTORER | ONSTACK | RESTART | NODEFER | RESETHAND;
}

/// SIG_DFL
pub const SIG_DFL: u64 = 0;
/// SIG_IGN
pub const SIG_IGN: u64 = 1;

/// An action as rt_sigaction sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct SigAction {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

impl SigAction {
    /// `signo` has no effect with this action (sig_handler_ignored).
    pub fn ignores(&self, signo: u32) -> bool {
        self.handler == SIG_IGN || (self.handler == SIG_DFL && bit(signo) & IGNORES != 0)
    }
    /// `signo` ends the process with this action (sig_fatal).
    pub fn is_fatal(&self, signo: u32) -> bool {
        self.handler == SIG_DFL && bit(signo) & (IGNORES | STOPS) == 0
    }
}

/// sigaltstack(2) as a thread keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AltStack {
    /// Lowest address.
    pub sp: u64,
    /// Flags as set: SS_DISABLE, SS_AUTODISARM.
    pub flags: u32,
    /// Bytes; 0 when disabled.
    pub size: u64,
}

/// ss_flags.
#[allow(missing_docs)]
pub mod ss {
    pub const ONSTACK: u32 = 1;
    pub const DISABLE: u32 = 2;
    pub const AUTODISARM: u32 = 1 << 31;
}

impl Default for AltStack {
    fn default() -> AltStack {
        AltStack {
            sp: 0,
            flags: ss::DISABLE,
            size: 0,
        }
    }
}

impl AltStack {
    /// `sp` lies on it, whatever its flags (__on_sig_stack).
    pub fn holds(&self, sp: u64) -> bool {
        sp > self.sp && sp - self.sp <= self.size
    }
    /// A thread with this `sp` runs on it (on_sig_stack).
    pub fn in_use(&self, sp: u64) -> bool {
        self.flags & ss::AUTODISARM == 0 && self.holds(sp)
    }
    /// What sigaltstack(2) reports (sas_ss_flags).
    pub fn mode(&self, sp: u64) -> u32 {
        if self.size == 0 {
            ss::DISABLE
        } else if self.in_use(sp) {
            ss::ONSTACK
        } else {
            0
        }
    }
}
