//! The allocator of the two arenas, and which side of the door is running.
//!
//! One `#[global_allocator]` with three places: the C library's heap before a guest process is set
//! up and in the CLI; the **host arena** (shared by the image's host processes, never part of the
//! image) while runtime code runs; the **image arena** while kernel code runs. Memory goes back to
//! where it came from by its address, so a value may be dropped on either side; but what the image
//! keeps must be allocated on the image's side.
//!
//! Each arena has a TLSF header at a fixed place inside itself, so that every host process of the
//! image, and a restored one, finds it. Callers hold the image's token: there is no lock. Signal
//! handlers must not allocate.

use ftl_core::layout::{ARENA, ARENA_LEN, HOST_ARENA, HOST_ARENA_LEN, PAGE};
use rlsf::Tlsf;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Where allocations go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Side {
    /// The C library's heap.
    System = 0,
    /// The host arena.
    Host = 1,
    /// The image arena.
    Image = 2,
}

static SIDE: AtomicU8 = AtomicU8::new(0);

/// Offset of the allocator's header from the start of an arena: the first pages are for what must
/// be at a fixed address.
const HEADER: u64 = 4 * PAGE;
/// Offset of the first byte that is handed out.
pub const FIRST: u64 = 16 * PAGE;
const GROW: u64 = 1 << 20;

type Pool = Tlsf<'static, u32, u32, 28, 16>;

#[repr(C)]
struct Heap {
    tlsf: Pool,
    end: u64,
    limit: u64,
    /// Bytes handed out and not returned.
    live: u64,
}

/// The allocator.
pub struct Arenas;

#[global_allocator]
static GLOBAL: Arenas = Arenas;

/// Makes the allocator of an arena whose (zeroed) memory is mapped.
///
/// # Safety
/// `[base, base + len)` is mapped read-write at a fixed place, zeroed, and nobody uses it yet.
pub unsafe fn create(base: u64, len: u64) {
    let heap = (base + HEADER) as *mut Heap;
    const { assert!(size_of::<Heap>() as u64 <= FIRST - HEADER) };
    // SAFETY: the header's pages are ours by contract.
    unsafe {
        heap.write(Heap {
            tlsf: Pool::new(),
            end: base + FIRST,
            limit: base + len,
            live: 0,
        })
    };
}

/// Runs `f` with allocations on `side`, and goes back.
pub fn on<R>(side: Side, f: impl FnOnce() -> R) -> R {
    let _guard = enter(side);
    f()
}

/// Puts the former side back when dropped.
pub struct Guard(u8);

impl Drop for Guard {
    fn drop(&mut self) {
        SIDE.store(self.0, Relaxed);
    }
}

/// Allocations go to `side` until the guard is dropped.
#[must_use]
pub fn enter(side: Side) -> Guard {
    if side == Side::Host {
        crate::vcpu::load_host_fs();
    }
    // Not an exchange, which would lock the bus: nobody else changes it meanwhile.
    let former = SIDE.load(Relaxed);
    SIDE.store(side as u8, Relaxed);
    Guard(former)
}

/// Sets the side for good.
pub fn set(side: Side) {
    if side == Side::System && SIDE.load(Relaxed) != Side::System as u8 {
        // Only for a last message: formatting and stderr use thread-locals.
        crate::vcpu::load_host_fs();
    }
    SIDE.store(side as u8, Relaxed);
}

/// Where allocations go now.
pub fn side() -> Side {
    match SIDE.load(Relaxed) {
        1 => Side::Host,
        2 => Side::Image,
        _ => Side::System,
    }
}

/// Allocations go to the C library's heap.
pub fn is_system() -> bool {
    SIDE.load(Relaxed) == Side::System as u8
}

/// Where buffers of inputs are made: in the image that takes them, or, while a log is kept, on the
/// host's side, because when they arrive is not the image's doing; the image then makes copies.
pub fn input_side() -> Side {
    // SAFETY: inputs arrive in guest processes, where the page is mapped.
    match unsafe { crate::control::get() }.inputs_on_host.load(Relaxed) {
        0 => Side::Image,
        _ => Side::Host,
    }
}

/// See [`input_side`]; for all processes of the image. Before the first input, or at the top of the scheduler.
pub fn inputs_on_host(yes: bool) {
    // SAFETY: in a guest process.
    unsafe { crate::control::get() }
        .inputs_on_host
        .store(u32::from(yes), Relaxed);
}

fn heap_of(addr: u64) -> Option<*mut Heap> {
    if (ARENA..ARENA + ARENA_LEN).contains(&addr) {
        Some((ARENA + HEADER) as *mut Heap)
    } else if (HOST_ARENA..HOST_ARENA + HOST_ARENA_LEN).contains(&addr) {
        Some((HOST_ARENA + HEADER) as *mut Heap)
    } else {
        None
    }
}

impl Heap {
    fn alloc(&mut self, layout: Layout) -> *mut u8 {
        if let Some(p) = self.tlsf.allocate(layout) {
            self.live += layout.size() as u64;
            return p.as_ptr();
        }
        let want = (layout.size() + layout.align() * 2) as u64 * 5 / 4 + 4096;
        let len = want.max(GROW).next_multiple_of(PAGE);
        if self.end + len > self.limit {
            return std::ptr::null_mut();
        }
        let chunk = std::ptr::slice_from_raw_parts_mut(self.end as *mut u8, len as usize);
        // SAFETY: the range is mapped, never handed out before, and follows the previous pool.
        unsafe {
            if let Some(chunk) = NonNull::new(chunk)
                && self.tlsf.append_free_block_ptr(chunk) == 0
            {
                self.tlsf.insert_free_block_ptr(chunk);
            }
        }
        self.end += len;
        match self.tlsf.allocate(layout) {
            Some(p) => {
                self.live += layout.size() as u64;
                p.as_ptr()
            }
            None => std::ptr::null_mut(),
        }
    }
}

// SAFETY: every pointer comes from a TLSF pool or the system allocator and goes back to the same by
// its address; layouts are passed through.
unsafe impl GlobalAlloc for Arenas {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        crate::door::compare::scrub_shallow();
        let base = match SIDE.load(Relaxed) {
            1 => HOST_ARENA,
            2 => ARENA,
            // SAFETY: the caller's promise about `layout`.
            _ => return unsafe { System.alloc(layout) },
        };
        // SAFETY: a side is entered only after its arena was created, under the image's token.
        unsafe { (*((base + HEADER) as *mut Heap)).alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        crate::door::compare::scrub_shallow();
        let (Some(heap), Some(p)) = (heap_of(ptr as u64), NonNull::new(ptr)) else {
            // SAFETY: it came from the system allocator.
            return unsafe { System.dealloc(ptr, layout) };
        };
        // SAFETY: it came from this pool with this alignment; token held.
        unsafe {
            (*heap).live -= layout.size() as u64;
            (*heap).tlsf.deallocate(p, layout.align());
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(heap) = heap_of(ptr as u64) else {
            // SAFETY: it came from the system allocator.
            return unsafe { System.realloc(ptr, layout, size) };
        };
        let Ok(new) = Layout::from_size_align(size, layout.align()) else {
            return std::ptr::null_mut();
        };
        // SAFETY: grows in the arena that it came from, whatever side runs; token held.
        unsafe {
            let p = (*heap).alloc(new);
            if !p.is_null() {
                std::ptr::copy_nonoverlapping(ptr, p, layout.size().min(size));
                self.dealloc(ptr, layout);
            }
            p
        }
    }
}
