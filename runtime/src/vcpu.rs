//! The vCPU: what the entry path finds at a fixed address in every guest host process.
//!
//! The page is private to the process (a fork copies it) and outside the image. It holds no image
//! fact: which context runs, where the kernel stack is, the runtime's own FS base, and what the
//! signal handlers leave for the kernel entry.

use crate::sys::{self, HostErr, sys};
use ftl_abi::kernel::Trap;
use ftl_core::context::{Context, MXCSR_DEFAULT};
use ftl_core::layout::{PAGE, VCPU_BASE};
use ftl_core::wait::SpaceId;
use ftl_core::xstate::{self, PARTS_MAX, Part};

const KSTACK_TOP: u64 = VCPU_BASE + 0x40_0000;
const KSTACK_LEN: u64 = 2 << 20;
const ALTSTACK: u64 = VCPU_BASE + 0x80_0000;
const ALTSTACK_LEN: u64 = 128 << 10;

/// What a signal handler captured for `ftl_entry_event`.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// Nothing.
    None,
    /// An exception in guest code.
    Trap(Trap),
    /// The slice is over.
    Cut,
}

/// State of the vCPU.
#[repr(C)]
pub struct Vcpu {
    /// The context that runs.
    pub ctx: *mut Context,
    /// Top of the kernel stack.
    pub kstack: u64,
    /// The runtime's FS base.
    pub fs: u64,
    /// The runtime's MXCSR.
    pub mxcsr: u32,
    /// Address space of this process.
    pub space: SpaceId,
    /// Kernel entries of this process, for the watchdog.
    pub entries: u64,
    /// `entries` at the last tick.
    pub tick_entries: u64,
    /// Address of a `syscall` instruction that trapped, or 0.
    pub trapped_site: u64,
    /// Filled by handlers.
    pub event: Event,
    /// Host timer of the watchdog, -1 if none.
    pub timer: i32,
    /// The watchdog runs.
    pub armed: bool,
    /// Between the last look at `armed` and guest code.
    pub leaving: bool,
    /// This process has no guest any more and ends at the next hand-over.
    pub dying: bool,
    /// The machine, in the host arena.
    pub machine: *mut crate::run::Machine,
    /// GS base that is loaded.
    pub gs: u64,
    /// Length of the runtime's mapping.
    pub runtime_len: u64,
    /// Dirty tracking of this process, while a log is kept.
    pub tracker: Option<crate::dirty::Tracker>,
    /// Pages of this process that are not there yet ([`crate::snap::lazy`]); null if all are.
    pub lazy: *mut crate::snap::lazy::Table,
    /// Real time at which guest memory was last protected.
    pub protected_at: u64,
    /// For how long that serves, ns.
    pub protect_ns: u64,
    /// A slice was cut since.
    pub was_cut: bool,
    /// It was forked, and has not been looked at since.
    pub newborn: bool,
    /// Real time until which the slice of a protected image lasts: its watchdog ticks more often, for the link.
    pub slice_until: u64,
    /// The watchdog is wanted: set at every exit to the guest.
    pub wanted: bool,
    /// Some time has passed: a protected image looks at its link at the next entry.
    pub look: bool,
    /// Address of the common entry, for the vDSO.
    pub entry: u64,
    /// Calibration of the time-stamp counter: its value and the host's monotonic time at one moment,
    /// ns per tick in Q32, and the distance in ticks up to which it holds (0: not calibrated).
    pub tsc_base: u64,
    /// See `tsc_base`.
    pub tsc_ns: u64,
    /// See `tsc_base`.
    pub tsc_rate: u64,
    /// See `tsc_base`.
    pub tsc_limit: u64,
    /// Components of the extended state beyond the legacy region.
    pub parts: [Part; PARTS_MAX],
    /// Without a calibration: logical times below this read as predicted (replay knows the next miss).
    pub free_e: u64,
    /// The watchdog has ticked: what was used of the CPU is to be counted ([`crate::quota`]).
    pub ticked: bool,
    /// CPU time of this process that was counted, ns.
    pub cpu_counted: u64,
}

/// The vCPU of this process.
///
/// # Safety
/// [`map`] was called; one reference at a time (the entry path is not re-entered; handlers touch
/// only what the kernel side does not hold).
pub unsafe fn get() -> &'static mut Vcpu {
    // SAFETY: mapped for the life of the process by `map`.
    unsafe { &mut *(VCPU_BASE as *mut Vcpu) }
}

/// Maps the page, the kernel stack and the signal stack.
pub fn map(runtime_len: u64) -> Result<(), HostErr> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: NOREPLACE takes only free space.
    unsafe {
        sys::mmap(VCPU_BASE, PAGE, prot, flags, -1, 0)?;
        sys::mmap(
            KSTACK_TOP - KSTACK_LEN,
            KSTACK_LEN,
            prot,
            flags | libc::MAP_NORESERVE,
            -1,
            0,
        )?;
        sys::mmap(ALTSTACK, ALTSTACK_LEN, prot, flags | libc::MAP_NORESERVE, -1, 0)?;
    }
    // SAFETY: the page was just mapped and is large enough.
    unsafe {
        (VCPU_BASE as *mut Vcpu).write(Vcpu {
            ctx: std::ptr::null_mut(),
            kstack: KSTACK_TOP,
            fs: rdfs(),
            mxcsr: MXCSR_DEFAULT,
            space: SpaceId(0),
            entries: 0,
            tick_entries: 0,
            trapped_site: 0,
            event: Event::None,
            timer: -1,
            armed: false,
            leaving: false,
            dying: false,
            machine: std::ptr::null_mut(),
            gs: 0,
            runtime_len,
            tracker: None,
            lazy: std::ptr::null_mut(),
            protected_at: 0,
            protect_ns: 0,
            was_cut: false,
            newborn: false,
            slice_until: 0,
            wanted: false,
            look: false,
            entry: crate::entry::ftl_entry_call as *const () as u64,
            tsc_base: 0,
            tsc_ns: 0,
            tsc_rate: 0,
            tsc_limit: 0,
            free_e: 0,
            ticked: false,
            cpu_counted: 0,
            parts: xstate::parts(xsave_facts().1, |sub| {
                let r = std::arch::x86_64::__cpuid_count(0xd, sub);
                [r.eax, r.ebx, r.ecx, r.edx]
            }),
        });
    }
    altstack()
}

/// Tells the host about the signal stack; needed again after clone.
pub fn altstack() -> Result<(), HostErr> {
    let ss = libc::stack_t {
        ss_sp: ALTSTACK as *mut _,
        ss_flags: 0,
        ss_size: ALTSTACK_LEN as usize,
    };
    // SAFETY: the stack was mapped by `map` and is used for nothing else.
    unsafe { sys!(libc::SYS_sigaltstack, &raw const ss, 0) }.map(drop)
}

/// Loads the runtime's FS base if the guest's is there: before anything that uses the C library's
/// thread-locals. The way back to the guest undoes it.
pub fn load_host_fs() {
    // SAFETY: a guest process has its page; elsewhere FS is the C library's own already.
    unsafe {
        let want = (*(VCPU_BASE as *const Vcpu)).fs;
        if rdfs() != want {
            std::arch::asm!("wrfsbase {}", in(reg) want, options(nomem, nostack));
        }
    }
}

fn rdfs() -> u64 {
    let v: u64;
    // SAFETY: FSGSBASE was checked at start-up.
    unsafe { std::arch::asm!("rdfsbase {}", out(reg) v, options(nomem, nostack)) };
    v
}

/// GS base as the guest left it.
pub fn read_gs() -> u64 {
    let v: u64;
    // SAFETY: FSGSBASE was checked at start-up.
    unsafe { std::arch::asm!("rdgsbase {}", out(reg) v, options(nomem, nostack)) };
    v
}

/// Loads GS for the context that is about to run.
pub fn load_gs(v: u64) {
    // SAFETY: the runtime does not use GS; the kernel checked that the base is a guest address.
    unsafe { std::arch::asm!("wrgsbase {}", in(reg) v, options(nomem, nostack)) };
}

/// Writes the live extended state into a context whose xmm values the entry path has saved.
pub fn save_xstate(ctx: &mut Context) {
    if ctx.xstate_valid != 0 {
        return;
    }
    // SAFETY: the area is 64-byte aligned and as long as CPUID says for the enabled features.
    unsafe {
        std::arch::asm!("xsave64 [{}]", in(reg) ctx.xstate_ptr, in("eax") u32::MAX, in("edx") u32::MAX,
            options(nostack));
    }
    ctx.adopt_saved_xmm();
    tidy(ctx);
}

/// In an image with a log, what the CPU wrote becomes a function of the values in it.
pub fn tidy(ctx: &mut Context) {
    // SAFETY: a guest process has its page; only fields that never change while guests run are read.
    let v = unsafe { &*(VCPU_BASE as *const Vcpu) };
    // SAFETY: as above; null before the image exists.
    let logged = unsafe { v.machine.as_ref() }.is_some_and(|m| m.kernel.config.cpu.is_some());
    if logged {
        xstate::canonical(ctx.xstate_mut(), &v.parts);
    }
}

/// True if CPU and host kernel let user code set FS (CR4.FSGSBASE).
pub fn has_fsgsbase() -> bool {
    const HWCAP2_FSGSBASE: u64 = 2;
    // SAFETY: getauxval only reads.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & HWCAP2_FSGSBASE != 0 }
}

/// Bytes of an XSAVE area for the features that are enabled, and XCR0.
pub fn xsave_facts() -> (usize, u64) {
    let leaf = std::arch::x86_64::__cpuid_count(0xd, 0);
    let (lo, hi): (u32, u32);
    // SAFETY: CPUID leaf 0xD exists, so XGETBV does.
    unsafe { std::arch::asm!("xgetbv", in("ecx") 0, out("eax") lo, out("edx") hi, options(nomem, nostack)) };
    (leaf.ebx as usize, u64::from(lo) | u64::from(hi) << 32)
}
