//! Stage 0: the runtime at one fixed address on every host (DESIGN §2).
//!
//! `ftvm` is an ordinary static-PIE, which the host kernel puts anywhere. In the process that is to
//! become a guest, this code maps the same file a second time at [`RUNTIME_BASE`], builds it an
//! initial stack at a fixed place, and jumps to its entry point. The second instance runs its C
//! library's start-up and `main` again, finds itself at the fixed base ([`in_place`]), and goes on.
//! Nothing of the first instance is used after the jump.

use crate::sys::{self, HostErr, sys};
use crate::talk;
use ftl_core::layout::{PAGE, RUNTIME_BASE, VCPU_BASE, page_down, page_up};
use ftl_loader::elf::{self, SegFlags};
use ftl_loader::stack;
use std::os::unix::ffi::OsStringExt;

/// Stack of the second instance's `main`.
const MAIN_STACK: u64 = VCPU_BASE + 0x1000_0000;
const MAIN_STACK_LEN: u64 = 8 << 20;
/// Name under which the user's own value of GLIBC_TUNABLES travels.
pub const SAVED_TUNABLES: &str = "FTVM_SAVED_GLIBC_TUNABLES";
/// glibc picks its string functions by these; without AVX they leave the guest's upper vector
/// halves alone, which the entry path does not save.
const TUNABLES: &str = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX2_Usable,-AVX,\
-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-EVEX,-AVX_Usable,-Prefer_No_VZEROUPPER:glibc.pthread.rseq=0";

/// Descriptors above the standard three that we were started with, for the second instance.
pub const INHERITED: &str = "FTVM_INHERITED";
static AT_START: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Remembers which descriptors are open: to be called before anything opens one.
pub fn note_inherited() {
    let Ok(list) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<i32> = list
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    // The directory's own descriptor is closed by now.
    // SAFETY: fcntl on any number is safe.
    let open = open
        .into_iter()
        .filter(|fd| *fd > 2 && unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0);
    let text: Vec<String> = open.map(|fd| fd.to_string()).collect();
    let _ = AT_START.set(text.join(","));
}

/// In the second instance: the descriptors and their flags.
pub fn inherited() -> Vec<(u32, i32)> {
    let list = std::env::var(INHERITED).unwrap_or_default();
    let fds = list.split(',').filter_map(|n| n.parse::<u32>().ok());
    // SAFETY: fcntl on any number is safe.
    let flags = |fd: u32| unsafe { libc::fcntl(fd as i32, libc::F_GETFL) };
    fds.map(|fd| (fd, flags(fd))).filter(|(_, f)| *f >= 0).collect()
}

/// True in the instance at the fixed base.
pub fn in_place() -> bool {
    let here = in_place as *const () as u64;
    (RUNTIME_BASE..RUNTIME_BASE + (1 << 32)).contains(&here)
}

/// Length of the runtime's mapping, from its own program headers.
pub fn runtime_len() -> u64 {
    unsafe extern "C" {
        /// The linker's name for the start of the file that this instance is mapped from.
        static __ehdr_start: u8;
    }
    // SAFETY: the first page of the file is mapped there, in the user's process and in a guest's.
    let head = unsafe { std::slice::from_raw_parts(&raw const __ehdr_start, PAGE as usize) };
    elf::plan(head, u64::MAX >> 1).map_or(0, |p| p.hi)
}

fn fail(what: &str, e: HostErr) -> std::io::Error {
    std::io::Error::other(format!("stage 0: {what}: {e}"))
}

/// Maps the second instance and jumps. Returns only on failure.
pub fn enter() -> std::io::Error {
    match prepare() {
        Ok((sp, entry)) => {
            // SAFETY: `entry` is the start of a complete static-PIE with the stack that it expects;
            // rdx is 0: no function to register with atexit.
            unsafe {
                std::arch::asm!("mov rsp, {sp}", "xor edx, edx", "xor ebp, ebp", "jmp {entry}",
                    sp = in(reg) sp, entry = in(reg) entry, options(noreturn));
            }
        }
        Err(e) => e,
    }
}

fn prepare() -> std::io::Result<(u64, u64)> {
    let bytes = std::fs::File::open("/proc/self/exe")?;
    let file_len = bytes.metadata()?.len();
    let mut head = vec![0; PAGE as usize];
    std::os::unix::fs::FileExt::read_exact_at(&bytes, &mut head, 0)?;
    let plan = elf::plan(&head, file_len).map_err(std::io::Error::other)?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&bytes);
    let fixed = libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: NOREPLACE: only free space is taken.
    unsafe {
        sys::mmap(
            RUNTIME_BASE,
            plan.hi,
            0,
            fixed | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
        .map_err(|e| fail("reserving the runtime's place", e))?;
    }
    for op in elf::map_ops(&plan, RUNTIME_BASE) {
        let bit = |flag, prot| if op.prot.contains(flag) { prot } else { 0 };
        let prot = bit(SegFlags::R, libc::PROT_READ)
            | bit(SegFlags::W, libc::PROT_WRITE)
            | bit(SegFlags::X, libc::PROT_EXEC);
        let (flags, f, off) = match op.file {
            Some(off) => (libc::MAP_PRIVATE | libc::MAP_FIXED, fd, off),
            None => (libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_ANONYMOUS, -1, 0),
        };
        // SAFETY: inside the range reserved above.
        unsafe {
            sys::mmap(op.addr, op.len, prot, flags, f, off).map_err(|e| fail("mapping the runtime", e))?
        };
        if let Some(zero) = op.zero_from {
            let end = op.addr + op.len;
            if prot & libc::PROT_WRITE != 0 {
                // SAFETY: the tail of a page just mapped writable.
                unsafe { std::ptr::write_bytes(zero as *mut u8, 0, (end - zero) as usize) };
            }
        }
    }
    // SAFETY: NOREPLACE: only free space is taken.
    unsafe {
        sys::mmap(
            MAIN_STACK - MAIN_STACK_LEN,
            MAIN_STACK_LEN,
            libc::PROT_READ | libc::PROT_WRITE,
            fixed | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
        .map_err(|e| fail("mapping the runtime's stack", e))?;
    }
    // The jump runs no destructors.
    drop(bytes);
    drop_rseq();
    block_brk().map_err(|e| fail("closing the heap", e))?;
    let argv: Vec<Vec<u8>> = std::env::args_os().map(|a| a.into_vec()).collect();
    let mut envp = vec![TUNABLES.as_bytes().to_vec()];
    for (k, v) in std::env::vars_os().filter(|(k, _)| k != INHERITED && k != talk::HANDED) {
        let k = if k == "GLIBC_TUNABLES" {
            SAVED_TUNABLES.into()
        } else {
            k
        };
        let mut e = k.into_vec();
        e.push(b'=');
        e.extend(v.into_vec());
        envp.push(e);
    }
    let inherited = AT_START.get().map_or("", String::as_str);
    envp.push(format!("{INHERITED}={inherited}").into_bytes());
    envp.push(format!("{}={}", talk::HANDED, talk::handed()).into_bytes());
    let keep = [
        libc::AT_SYSINFO_EHDR,
        libc::AT_HWCAP,
        libc::AT_HWCAP2,
        libc::AT_CLKTCK,
        libc::AT_UID,
        libc::AT_EUID,
        libc::AT_GID,
        libc::AT_EGID,
        libc::AT_SECURE,
        libc::AT_MINSIGSTKSZ,
    ];
    // SAFETY: getauxval only reads.
    let mut aux: Vec<(u64, u64)> = keep
        .iter()
        .map(|k| (*k, unsafe { libc::getauxval(*k) }))
        .collect();
    aux.extend([
        (libc::AT_PAGESZ, PAGE),
        (
            libc::AT_PHDR,
            RUNTIME_BASE + plan.phdr_vaddr.unwrap_or(elf::EHDR_LEN as u64),
        ),
        (libc::AT_PHENT, u64::from(plan.phentsize)),
        (libc::AT_PHNUM, u64::from(plan.phnum)),
        (libc::AT_BASE, 0),
        (libc::AT_ENTRY, RUNTIME_BASE + plan.entry),
    ]);
    let mut random = [0; 16];
    // SAFETY: the buffer is valid for writes.
    let _ = unsafe { sys!(libc::SYS_getrandom, random.as_mut_ptr(), random.len(), 0) };
    let exe = std::fs::read_link("/proc/self/exe")?;
    let built = stack::build(
        &stack::StackSpec {
            top: MAIN_STACK,
            argv: &argv,
            envp: &envp,
            execfn: exe.as_os_str().as_encoded_bytes(),
            random,
            platform: b"x86_64",
            aux,
        },
        MAIN_STACK_LEN / 2,
    )
    .map_err(std::io::Error::other)?;
    // SAFETY: the builder laid the bytes out for [sp, top) of the stack mapped above.
    unsafe { std::ptr::copy_nonoverlapping(built.bytes.as_ptr(), built.sp as *mut u8, built.bytes.len()) };
    Ok((built.sp, RUNTIME_BASE + plan.entry))
}

/// Takes back the first instance's registration for restartable sequences: the host kernel would go
/// on writing into its thread area, which is unmapped later.
fn drop_rseq() {
    const UNREGISTER: i32 = 1;
    const SIGNATURE: u32 = 0x5305_3053;
    unsafe extern "C" {
        static __rseq_offset: isize;
        static __rseq_size: u32;
    }
    let tp: u64;
    // SAFETY: glibc's own description of its registration; a refusal (none registered) is fine.
    unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) tp, options(nostack, readonly));
        if __rseq_size > 0 {
            let area = tp.wrapping_add_signed(__rseq_offset as i64);
            let _ = sys!(libc::SYS_rseq, area, 32, UNREGISTER, SIGNATURE);
        }
    }
}

/// Makes every further brk fail, so that the second C library falls back to mmap and leaves the low
/// address space to the guest.
fn block_brk() -> Result<(), HostErr> {
    // What is freed from here on must not give the end of the heap back: the second library would find room behind it.
    // SAFETY: a plain call (mallopt(3): -1 turns trimming off).
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, -1) };
    // SAFETY: querying, then growing by less than a page, harms nobody.
    unsafe {
        let now = sys!(libc::SYS_brk, 0)?;
        let up = page_up(now).unwrap_or(page_down(now));
        sys!(libc::SYS_brk, up)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
        match sys::mmap(up, PAGE, 0, flags, -1, 0) {
            Ok(_) | Err(HostErr(libc::EEXIST)) => Ok(()),
            Err(e) => Err(e),
        }
    }
}
