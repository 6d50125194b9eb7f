//! Snapshots (DESIGN §8): the whole image as data.
//!
//! A snapshot is the image between two tasks, at the top of the scheduler: every context is complete,
//! the kernel stack holds nothing of the image, and what runs next is decided from the arena alone. So a
//! restored image takes the very decision that the original took.
//!
//! * [`capture`] takes it: pages of the arena, the page store and every space, and the host's side as data.
//! * [`rounds`] and [`copier`] take it while it runs, in rounds that [`live`] drives.
//! * [`restore`] makes processes from it; [`lazy`] reads private pages while they run already.
//! * [`volumes`] are host directories that the image has, whose contents may be in it.
//! * [`state`] is the host's side as data. [`prepared`] is a snapshot made ready to start from often; [`pages`] is where a space's
//!   private pages lie. [`wide`] hashes pages where no guest state is, [`gather`]
//!   writes them.

pub mod capture;
pub mod carry;
pub mod changes;
pub mod clone;
pub mod copier;
pub mod file;
pub mod gather;
pub mod lazy;
pub mod live;
mod locks;
pub mod pages;
pub mod prepared;
pub mod restore;
pub mod rounds;
pub mod shared;
pub mod state;
pub mod travel;
pub mod volumes;
pub mod wide;

use crate::control::{
    self, HOW_CARELESS, HOW_DRY, HOW_GO_ON, HOW_SHARE, HOW_VOLUMES, ORDER_ANCHOR, ORDER_COUNT, ORDER_DONE,
    ORDER_FAILED, ORDER_FORGET, ORDER_LOOK, ORDER_PROTECT, ORDER_RECORD, ORDER_RECORD_END, ORDER_REPLACE,
    ORDER_SNAPSHOT, ORDER_SNAPSHOT_AT, ORDER_STOP, ORDER_SWITCHOVER,
};
use crate::protect::guard::Wish;
use crate::run::Machine;
use crate::vcpu::Vcpu;
use ftl_abi::kernel::Kernel;
use ftl_core::layout::{ARENA, PAGE};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::Ordering;

pub use ftl_core::snap::Object;

/// Takes pages.
pub trait Sink {
    /// Whole pages, the first of which has number `first` (address or offset divided by the page size).
    fn pages(&mut self, object: Object, first: u64, bytes: &[u8]) -> Result<(), String>;

    /// Several runs of them (first page, count), whose bytes follow one another.
    fn runs(&mut self, object: Object, runs: &[(u64, u64)], bytes: &[u8]) -> Result<(), String> {
        let mut rest = bytes;
        for (first, count) in runs {
            let (now, later) = rest.split_at((*count * PAGE) as usize);
            self.pages(object, *first, now)?;
            rest = later;
        }
        Ok(())
    }

    /// Pages that hold nothing any more, whatever was given before.
    fn gone(&mut self, object: Object, first: u64, count: u64) -> Result<(), String>;
}

/// What a restored image is found by: in the arena's second page.
#[repr(C)]
pub struct Root {
    magic: u64,
    kernel: *const Kernel,
}

const ROOT: u64 = ARENA + PAGE;
const ROOT_MAGIC: u64 = 0x4654_4c5f_524f_4f54;

/// Notes where the kernel is.
pub fn set_root(kernel: &'static Kernel) {
    // SAFETY: the page belongs to the arena's head, which holds nothing else.
    unsafe {
        (ROOT as *mut Root).write(Root {
            magic: ROOT_MAGIC,
            kernel,
        });
    }
}

/// The kernel of an arena that was filled from a snapshot of this build.
pub fn root() -> Option<&'static Kernel> {
    // SAFETY: the arena is mapped; what it holds was checked to be a snapshot by this very build.
    unsafe {
        let root = &*(ROOT as *const Root);
        (root.magic == ROOT_MAGIC).then(|| &*root.kernel)
    }
}

/// A socket address for messages.
pub fn show_addr(addr: &[u8]) -> String {
    let port = |a: &[u8]| u16::from_be_bytes([a[2], a[3]]);
    match addr.first_chunk().map(|f| i32::from(u16::from_le_bytes(*f))) {
        Some(libc::AF_INET) if addr.len() >= 8 => {
            let ip = std::net::Ipv4Addr::new(addr[4], addr[5], addr[6], addr[7]);
            format!("{ip}:{}", port(addr))
        }
        Some(libc::AF_INET6) if addr.len() >= 24 => {
            let ip: [u8; 16] = std::array::from_fn(|i| addr[8 + i]);
            format!("[{}]:{}", std::net::Ipv6Addr::from(ip), port(addr))
        }
        _ => match crate::platform::net::unix::path_of(addr) {
            [] => "without a name".to_string(),
            path => String::from_utf8_lossy(path).into_owned(),
        },
    }
}

/// Why nothing of an image with secrets is written as it is.
const NOT_SEALED: &str = "the image holds secrets: a snapshot of it has to be encrypted (ftvm checkpoint --encrypt FILE), \
    a link too (--tls-dir DIR)";
/// Why it gets no log.
pub const NOT_RECORDED: &str = "the image holds secrets, and logs are not encrypted";

fn refused(why: &str) -> Result<(), String> {
    let _side = crate::alloc::enter(crate::alloc::Side::Host);
    Err(why.to_string())
}

/// What the image says of itself.
fn about(m: &Machine, path: &Path) -> Result<(), String> {
    let _side = crate::alloc::enter(crate::alloc::Side::Host);
    let bytes = crate::hooks::encode(&m.kernel.config.hooks);
    std::fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()))
}

/// What is ordered needs all pages of a restored image.
pub fn needs_all(order: u32) -> bool {
    !matches!(
        order,
        control::ORDER_EXEC | control::ORDER_ABOUT | ORDER_FORGET | ORDER_RECORD_END
    )
}

/// Does what the supervisor wants. Called at the top of the scheduler.
pub fn serve(v: &mut Vcpu, m: &mut Machine) {
    // An image that is over has nothing to go on with: it ends, which is the answer.
    if !wanted(m) || m.kernel.exit.get().is_some() {
        return;
    }
    // SAFETY: the page is mapped in every guest process.
    let order = &unsafe { control::get() }.order;
    let wish = order.state.load(Ordering::Acquire);
    if needs_all(wish) {
        lazy::complete(v);
    }
    let how = order.how.load(Ordering::Relaxed);
    let text = crate::alloc::on(crate::alloc::Side::Host, || order.text());
    let path = Path::new(std::ffi::OsStr::from_bytes(&text));
    let secret = m.kernel.config.secret;
    let bare = secret && how & (control::HOW_SEALED | HOW_DRY) == 0;
    let done = match wish {
        ORDER_SNAPSHOT | ORDER_SNAPSHOT_AT | ORDER_LOOK | ORDER_STOP if bare => refused(NOT_SEALED),
        ORDER_RECORD if secret => refused(NOT_RECORDED),
        ORDER_SNAPSHOT | ORDER_SNAPSHOT_AT if how & HOW_DRY != 0 => travel::report(m, path),
        ORDER_SNAPSHOT | ORDER_SNAPSHOT_AT => file::write(m, v.space, path, how),
        ORDER_ANCHOR => crate::door::anchor::take(v, m),
        ORDER_RECORD => crate::door::running::start(v, m, path),
        ORDER_RECORD_END => crate::door::running::stop(m),
        control::ORDER_EXEC => crate::exec::take(m),
        control::ORDER_ABOUT => about(m, path),
        ORDER_LOOK | ORDER_STOP => {
            let first = order.at.load(Ordering::Relaxed) == 0;
            rounds::look(v, m, path, how, first, wish == ORDER_STOP)
        }
        ORDER_FORGET => {
            rounds::forget(m);
            Ok(())
        }
        _ => {
            let _side = crate::alloc::enter(crate::alloc::Side::Host);
            let wish = match wish {
                ORDER_SWITCHOVER => Wish::Switchover,
                ORDER_REPLACE => Wish::Replace,
                _ => Wish::Protect,
            };
            m.plat.protect_order(wish, &text)
        }
    };
    // An image that could not be looked at for the last time does not stand.
    let ends = wish == ORDER_STOP && done.is_ok() && rounds::stand(v, m);
    let _side = crate::alloc::enter(crate::alloc::Side::Host);
    drop(text);
    match done {
        Ok(()) if wish == ORDER_SNAPSHOT_AT => {
            m.plat.live.net.abort();
            crate::run::leave()
        }
        Err(why) if wish == ORDER_SNAPSHOT_AT => crate::run::fail_stop(&why),
        Ok(()) => order.set(ORDER_DONE, b""),
        Err(why) => return order.set(ORDER_FAILED, why.as_bytes()),
    }
    if ends || wish == ORDER_SNAPSHOT && how & (HOW_GO_ON | HOW_DRY) == 0 {
        m.plat.live.net.abort();
        // The supervisor answers first; it ends when we do.
        for _ in 0..1000 {
            if order.state.load(Ordering::Acquire) != ORDER_DONE {
                break;
            }
            crate::sys::sleep_ns(1_000_000);
        }
        crate::run::leave();
    }
}

/// How a snapshot is wanted: `HOW_*`.
pub fn how() -> u32 {
    // SAFETY: the page is mapped in every guest process.
    unsafe { control::get() }.order.how.load(Ordering::Relaxed)
}

/// True if the supervisor wants something of the image. What it wants of one that is being taken over waits until that has gone
/// live: its replay knows of no order, and there is no host behind the doors yet that could carry one out.
pub fn wanted(m: &Machine) -> bool {
    if m.plat.takeover.is_some() {
        return false;
    }
    let entries = m.kernel.entries.get();
    // SAFETY: the page is mapped in every guest process.
    let order = &unsafe { control::get() }.order;
    match order.state.load(Ordering::Relaxed) {
        control::ORDER_NONE => false,
        ORDER_SNAPSHOT
        | ORDER_PROTECT
        | ORDER_REPLACE
        | ORDER_SWITCHOVER
        | ORDER_ANCHOR
        | ORDER_RECORD
        | ORDER_RECORD_END
        | ORDER_LOOK
        | ORDER_STOP
        | ORDER_FORGET
        | control::ORDER_EXEC
        | control::ORDER_ABOUT => true,
        ORDER_SNAPSHOT_AT => entries >= order.at.load(Ordering::Relaxed),
        _ => false,
    }
}

/// What a test wants of an image from its start (hidden options of `run` and `restore`).
#[derive(clap::Args)]
pub struct Tests {
    /// Entry of the kernel at which the image is written to --checkpoint-to, and ends
    #[arg(long, hide = true, value_name = "ENTRY", requires = "checkpoint_to")]
    checkpoint_at: Option<u64>,
    /// Volumes are held in it
    #[arg(long, hide = true, requires = "checkpoint_at")]
    checkpoint_volumes: bool,
    /// See --checkpoint-at
    #[arg(long, hide = true, value_name = "FILE")]
    checkpoint_to: Option<std::path::PathBuf>,
    /// File for the number of entries when the image ends
    #[arg(long, hide = true, value_name = "FILE", conflicts_with = "checkpoint_at")]
    count_entries: Option<std::path::PathBuf>,
}

impl Tests {
    /// Something is wanted.
    pub fn wanted(&self) -> bool {
        self.checkpoint_at.is_some() || self.count_entries.is_some()
    }

    /// In the guest process, before the image exists.
    pub fn arm(&self) {
        // SAFETY: the page is mapped in every guest process.
        let order = &unsafe { control::get() }.order;
        if let Some(path) = &self.count_entries {
            order.set(ORDER_COUNT, path.as_os_str().as_bytes());
        }
        if let (Some(at), Some(path)) = (self.checkpoint_at, &self.checkpoint_to) {
            order.at.store(at, Ordering::Relaxed);
            let volumes = match self.checkpoint_volumes {
                true => HOW_VOLUMES,
                false => HOW_SHARE,
            };
            order.how.store(volumes | HOW_CARELESS, Ordering::Relaxed);
            order.set(ORDER_SNAPSHOT_AT, path.as_os_str().as_bytes());
        }
    }
}

/// The image ends after `entries` entries: somebody may have asked for their number.
pub fn ended(entries: u64) {
    // SAFETY: the page is mapped in every guest process.
    let order = &unsafe { control::get() }.order;
    if order.state.load(Ordering::Acquire) == ORDER_COUNT {
        let _side = crate::alloc::enter(crate::alloc::Side::Host);
        let path = order.text();
        let _ = std::fs::write(std::ffi::OsStr::from_bytes(&path), entries.to_string());
    }
}
