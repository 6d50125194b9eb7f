//! Where things are in the address space of every guest process, on every host.
//!
//! The guest owns `[GUEST_MIN, GUEST_TOP)` without the runtime's block; the host kernel's own
//! placements (its mmap area, stack, vDSO) lie above `GUEST_TOP`. All values are part of the
//! image's format: a snapshot holds pointers into these ranges.

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Lowest address that a guest may map (`vm.mmap_min_addr`).
pub const GUEST_MIN: u64 = 0x1_0000;
/// First address above the guest. The host's mmap area starts at most 1.1 TiB below the end of
/// user space (28 bits of random pages plus the stack gap), which is above this.
pub const GUEST_TOP: u64 = 0x7e00_0000_0000;
/// Where position-independent executables go, before the image's seed moves them.
/// Below the range where the host kernel puts its own (`ELF_ET_DYN_BASE` = 0x5555_5555_4000).
pub const GUEST_PIE_BASE: u64 = 0x5500_0000_0000;

/// Start of the block that belongs to the runtime; no guest mapping may touch it.
pub const RUNTIME_BLOCK: u64 = 0x6000_0000_0000;
/// First address after the runtime's block.
pub const RUNTIME_BLOCK_END: u64 = 0x7000_0000_0000;

/// The runtime's own text and data (stage 0 maps it here).
pub const RUNTIME_BASE: u64 = 0x6000_0000_0000;
/// Private data of a guest host process: vCPU page, kernel stack, signal stack.
pub const VCPU_BASE: u64 = 0x6080_0000_0000;
/// Shared between the host processes of one image, never part of it: handle table, queues.
pub const HOST_ARENA: u64 = 0x6100_0000_0000;
/// Reserved bytes of the host arena.
pub const HOST_ARENA_LEN: u64 = 1 << 36;
/// The image arena: every kernel object.
pub const ARENA: u64 = 0x6200_0000_0000;
/// Reserved bytes of the image arena.
pub const ARENA_LEN: u64 = 1 << 36;
/// Page store: contents of files in the image and of shared memory.
pub const PAGES: u64 = 0x6400_0000_0000;
/// Reserved bytes of the page store.
pub const PAGES_LEN: u64 = 1 << 40;

/// Copy of the arena as the last incremental snapshot had it; not part of the image.
pub const SHADOW_ARENA: u64 = 0x6600_0000_0000;
/// Copy of the page store.
pub const SHADOW_PAGES: u64 = 0x6700_0000_0000;

/// First page of the arena: what the vDSO and the entry path reach at fixed addresses.
pub const CLOCK_ADDR: u64 = ARENA;

/// What a guest may map.
pub const GUEST_RANGES: [(u64, u64); 2] = [(GUEST_MIN, RUNTIME_BLOCK), (RUNTIME_BLOCK_END, GUEST_TOP)];

const _: () = assert!(GUEST_TOP > RUNTIME_BLOCK_END && GUEST_PIE_BASE < RUNTIME_BLOCK);
const _: () = assert!(HOST_ARENA + HOST_ARENA_LEN <= ARENA && ARENA + ARENA_LEN <= PAGES);
const _: () = assert!(PAGES + PAGES_LEN <= SHADOW_ARENA && SHADOW_ARENA + ARENA_LEN <= SHADOW_PAGES);
const _: () = assert!(SHADOW_PAGES + PAGES_LEN <= RUNTIME_BLOCK_END);

/// True if `[addr, addr + len)` lies in what a guest may map and name in calls.
pub const fn is_guest_range(addr: u64, len: u64) -> bool {
    match addr.checked_add(len) {
        Some(end) => end <= RUNTIME_BLOCK || (addr >= RUNTIME_BLOCK_END && end <= GUEST_TOP),
        None => false,
    }
}

/// `value` rounded up to a page, `None` on overflow.
pub const fn page_up(value: u64) -> Option<u64> {
    match value.checked_add(PAGE - 1) {
        Some(v) => Some(v & !(PAGE - 1)),
        None => None,
    }
}

/// `value` rounded down to a page.
pub const fn page_down(value: u64) -> u64 {
    value & !(PAGE - 1)
}
