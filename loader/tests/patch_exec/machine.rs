//! A machine for guest code: an executable area, registers in and out, single steps, and a stand-in for the kernel's
//! entry. The state is process-wide: callers hold [`TURN`].

use std::arch::global_asm;
use std::sync::Mutex;

/// Held by whoever uses this module.
pub static TURN: Mutex<()> = Mutex::new(());

/// Registers in the order of the assembly below: rax rbx rcx rdx rsi rdi rbp r8..r15, flags.
pub type Regs = [u64; 16];

/// One single step: where it is about to execute, and with which registers (rsp last).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub rip: u64,
    pub regs: Regs,
    pub rsp: u64,
}

pub const CODE_LEN: usize = 4096;
const AREA_LEN: usize = 16 * 4096;
pub const STUB_AT: usize = 8 * 4096 + 3;
const STEPS_MAX: usize = 256;
const TF: u64 = 0x100;

#[unsafe(no_mangle)]
static mut FTL_GUEST: Regs = [0; 16];
#[unsafe(no_mangle)]
static mut FTL_CODE: u64 = 0;
#[unsafe(no_mangle)]
static mut FTL_RET: u64 = 0;
#[unsafe(no_mangle)]
static mut FTL_ENTRIES: u64 = 0;
static mut STEPS: [(u64, Regs, u64); STEPS_MAX] = [(0, [0; 16], 0); STEPS_MAX];
static mut STEP_COUNT: usize = 0;
static mut STEP_RANGE: (u64, u64) = (0, 0);

// ftl_run: loads the guest's registers and flags, calls its code, stores them again.
// ftl_entry: what the kernel does as far as the guest can tell: the call, and back to the label in rcx.
global_asm!(
    ".globl ftl_run",
    "ftl_run:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "sub rsp, 1024",
    "push qword ptr [rip + FTL_GUEST + 120]",
    "mov rax, [rip + FTL_GUEST]",
    "mov rbx, [rip + FTL_GUEST + 8]",
    "mov rcx, [rip + FTL_GUEST + 16]",
    "mov rdx, [rip + FTL_GUEST + 24]",
    "mov rsi, [rip + FTL_GUEST + 32]",
    "mov rdi, [rip + FTL_GUEST + 40]",
    "mov rbp, [rip + FTL_GUEST + 48]",
    "mov r8, [rip + FTL_GUEST + 56]",
    "mov r9, [rip + FTL_GUEST + 64]",
    "mov r10, [rip + FTL_GUEST + 72]",
    "mov r11, [rip + FTL_GUEST + 80]",
    "mov r12, [rip + FTL_GUEST + 88]",
    "mov r13, [rip + FTL_GUEST + 96]",
    "mov r14, [rip + FTL_GUEST + 104]",
    "mov r15, [rip + FTL_GUEST + 112]",
    "popfq",
    "call qword ptr [rip + FTL_CODE]",
    "mov [rip + FTL_GUEST], rax",
    "pushfq",
    "pop qword ptr [rip + FTL_GUEST + 120]",
    "push 2",
    "popfq",
    "mov [rip + FTL_GUEST + 8], rbx",
    "mov [rip + FTL_GUEST + 16], rcx",
    "mov [rip + FTL_GUEST + 24], rdx",
    "mov [rip + FTL_GUEST + 32], rsi",
    "mov [rip + FTL_GUEST + 40], rdi",
    "mov [rip + FTL_GUEST + 48], rbp",
    "mov [rip + FTL_GUEST + 56], r8",
    "mov [rip + FTL_GUEST + 64], r9",
    "mov [rip + FTL_GUEST + 72], r10",
    "mov [rip + FTL_GUEST + 80], r11",
    "mov [rip + FTL_GUEST + 88], r12",
    "mov [rip + FTL_GUEST + 96], r13",
    "mov [rip + FTL_GUEST + 104], r14",
    "mov [rip + FTL_GUEST + 112], r15",
    "add rsp, 1024",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".globl ftl_entry",
    "ftl_entry:",
    "mov [rip + FTL_RET], rcx",
    "mov r11, [rip + FTL_ENTRIES]",
    "lea r11, [r11 + 1]",
    "mov [rip + FTL_ENTRIES], r11",
    "syscall",
    "jmp qword ptr [rip + FTL_RET]",
);

unsafe extern "C" {
    fn ftl_run();
    fn ftl_entry();
}

pub struct Area(*mut u8);

impl Area {
    pub fn new() -> Area {
        let prot = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh mapping, nothing is replaced.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), AREA_LEN, prot, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        Area(at.cast())
    }

    pub fn addr(&self) -> u64 {
        self.0 as u64
    }

    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= AREA_LEN);
        // SAFETY: within the mapping, and nothing executes there now.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.add(at), bytes.len()) };
    }

    pub fn read(&self, at: usize, len: usize) -> Vec<u8> {
        assert!(at + len <= AREA_LEN);
        // SAFETY: within the mapping.
        unsafe { std::slice::from_raw_parts(self.0.add(at), len).to_vec() }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: our own mapping; nothing refers to it any more.
        unsafe { libc::munmap(self.0.cast(), AREA_LEN) };
    }
}

extern "C" fn on_trap(_signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a ucontext; the statics are used by one thread, which holds TURN.
    unsafe {
        let gregs = &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let get = |index: i32| gregs[index as usize] as u64;
        let rip = get(libc::REG_RIP);
        let (lo, hi) = STEP_RANGE;
        if rip >= lo && rip < hi && STEP_COUNT < STEPS_MAX {
            let order = [
                libc::REG_RAX,
                libc::REG_RBX,
                libc::REG_RCX,
                libc::REG_RDX,
                libc::REG_RSI,
                libc::REG_RDI,
                libc::REG_RBP,
                libc::REG_R8,
                libc::REG_R9,
                libc::REG_R10,
                libc::REG_R11,
                libc::REG_R12,
                libc::REG_R13,
                libc::REG_R14,
                libc::REG_R15,
                libc::REG_EFL,
            ];
            STEPS[STEP_COUNT] = (rip, order.map(get), get(libc::REG_RSP));
            STEP_COUNT += 1;
        }
    }
}

/// Runs the code at `code` with these registers; with single steps if asked.
pub fn run(area: &Area, code: u64, regs: &Regs, stepping: bool) -> (Regs, Vec<Step>) {
    let mut action: libc::sigaction = unsafe_zeroed();
    action.sa_sigaction = on_trap as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: callers hold TURN, so one thread uses the statics; the snippet keeps to the ABI that ftl_run expects
    // (it returns, and preserves rsp).
    unsafe {
        assert_eq!(libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut()), 0);
        FTL_GUEST = *regs;
        FTL_GUEST[15] = regs[15] | if stepping { TF } else { 0 };
        FTL_CODE = code;
        STEP_COUNT = 0;
        STEP_RANGE = (area.addr(), area.addr() + AREA_LEN as u64);
        ftl_run();
        let mut out = FTL_GUEST;
        out[15] &= !TF;
        out[10] &= !TF; // r11: the flags as the syscall saw them
        let steps = (0..STEP_COUNT).map(|i| {
            let (rip, regs, rsp) = STEPS[i];
            Step { rip, regs, rsp }
        });
        (out, steps.collect())
    }
}

fn unsafe_zeroed() -> libc::sigaction {
    // SAFETY: all-zero is a valid sigaction.
    unsafe { std::mem::zeroed() }
}

/// The address of the entry's stand-in.
pub fn entry() -> u64 {
    ftl_entry as *const () as u64
}

/// How often it was entered.
pub fn entries() -> u64 {
    // SAFETY: callers hold TURN.
    unsafe { FTL_ENTRIES }
}
