//! Making an image from a snapshot: arenas filled, host objects made again, one process for each
//! space, then the scheduler goes on where it was.

use super::lazy::{self, Extent, Rest};
use super::pages::Pages;
use super::state::{FileRow, HostState};
use super::{Object, capture, locks};
use crate::alloc::{self, Side};
use crate::door::files::Files;
use crate::door::replay::Replayer;
use crate::door::{Doors, Mode, start};
use crate::migrate::target::Gate;
use crate::platform::maps::Under;
use crate::platform::space::{clone_process, prot_bits, sit_down, stay_on_this_cpu, unmap_guest};
use crate::platform::{HostObject, Plat, streams::Stream};
use crate::protect::golive::Takeover;
use crate::protect::standby::Meta;
use crate::run::{self, EXIT_FAILED, Failure, Fds, Machine};
use crate::sys::{self, sys};
use crate::{fault, vcpu};
use ftl_abi::kernel::Kernel;
use ftl_abi::mm::Mm;
use ftl_core::door::Input;
use ftl_core::layout::{ARENA, ARENA_LEN, GUEST_TOP, PAGE, PAGES, PAGES_LEN};
use ftl_core::platform::{Handle, Host, StreamKind};
use ftl_core::snap::Root;
use ftl_core::wait::SpaceId;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;

/// Something that the snapshot needs is not here, or not as it was (USERS: 3).
pub const EXIT_MISSING: i32 = 3;

/// What a snapshot holds beside its pages.
pub struct Loaded {
    /// Identity of the image.
    pub image: u64,
    /// Encoded [`HostState`].
    pub state: Vec<u8>,
    /// Space, first page, count: pages that are zero whatever is under them.
    pub zero: Vec<(u32, u64, u64)>,
    /// Spaces whose pages are in place already, in these files.
    pub spaces: Vec<(u32, Pages)>,
    /// Private pages were not given: they are to be read from this.
    pub rest: Option<Rest>,
    /// What the snapshot is named by, if it is a file.
    pub root: Option<Root>,
}

/// Where pages and state come from.
pub trait Source {
    /// Gives every page with content to `found`.
    fn load(
        &mut self,
        found: &mut dyn FnMut(Object, u64, &[u8]) -> Result<(), String>,
    ) -> Result<Loaded, String>;

    /// What is known of host files already.
    fn files(&mut self) -> Files {
        Files::default()
    }
}

/// How a restored image goes on.
pub enum Then {
    /// Live.
    Live,
    /// Live, as one of several: with random numbers and an identity of its own.
    Clone(Own),
    /// As this log says, from the snapshot's place in it.
    /// Every call is printed if so wanted.
    Replay(std::path::PathBuf, bool),
    /// As the log in memory says, and then live (PROTOCOL §3).
    TakeOver(Box<Meta>),
    /// Live, when the host that it comes from has let it go.
    Moved(Gate),
}

/// What is a clone's own.
#[derive(Default)]
pub struct Own {
    /// Ports on the host in place of those that the image has: old, new.
    pub ports: Vec<(u16, u16)>,
    /// Manifest's digest of the image whose root the snapshot must have.
    pub of: Option<String>,
}

/// A snapshot that a standby process has put in place: the arenas are its memory itself.
struct InPlace {
    image: u64,
    state: Vec<u8>,
}

impl Source for InPlace {
    fn load(
        &mut self,
        _: &mut dyn FnMut(Object, u64, &[u8]) -> Result<(), String>,
    ) -> Result<Loaded, String> {
        Ok(Loaded {
            image: self.image,
            state: std::mem::take(&mut self.state),
            zero: Vec::new(),
            spaces: Vec::new(),
            rest: None,
            root: None,
        })
    }
}

/// Makes the image's first process from what a standby process left. Returns only when that failed.
pub fn take_over(mut meta: Meta) -> Failure {
    let source = InPlace {
        image: meta.intro.image,
        state: std::mem::take(&mut meta.state),
    };
    let arenas = run::Arenas::Given {
        arena: meta.arenas.0,
        pages: meta.arenas.1,
    };
    boot_in(arenas, || Box::new(source), Then::TakeOver(Box::new(meta)))
}

/// Private pages of each space.
pub(super) type Saved = BTreeMap<u32, Pages>;

fn missing(why: impl std::fmt::Display) -> Failure {
    (EXIT_MISSING, why.to_string())
}

pub(super) fn saved_of(saved: &mut Saved, space: u32) -> Result<&Pages, String> {
    use std::collections::btree_map::Entry;
    Ok(match saved.entry(space) {
        Entry::Occupied(e) => e.into_mut(),
        Entry::Vacant(e) => {
            let fd = sys::memfd(c"ftvm-space", GUEST_TOP).map_err(|e| format!("pages of a space: {e}"))?;
            // SAFETY: a new descriptor.
            e.insert(Pages::sparse(Rc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
        }
    })
}

/// Where pages go, if that is below `limit`.
pub fn in_range(first: u64, len: u64, limit: u64) -> Option<u64> {
    let start = first.checked_mul(PAGE)?;
    (start.checked_add(len)? <= limit).then_some(start)
}

/// Puts pages where they belong.
pub(super) fn place(saved: &mut Saved, object: Object, first: u64, bytes: &[u8]) -> Result<(), String> {
    let outside = || format!("snapshot: page {first:#x} of {object:?} is out of range");
    let len = bytes.len() as u64;
    match object {
        Object::Arena | Object::Store => {
            let (base, limit) = match object {
                Object::Arena => (ARENA, ARENA_LEN),
                _ => (PAGES, PAGES_LEN),
            };
            let at = in_range(first, len, limit).ok_or_else(outside)?;
            // SAFETY: inside the mapped arena, which nobody uses yet.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (base + at) as *mut u8, bytes.len()) };
        }
        Object::Runtime | Object::Volumes => {}
        Object::Space(n) => {
            use std::os::unix::fs::FileExt;
            let at = in_range(first, len, GUEST_TOP).ok_or_else(outside)?;
            let fd = saved_of(saved, n)?;
            let file = std::mem::ManuallyDrop::new(
                // SAFETY: borrowed for this call only.
                unsafe { std::fs::File::from_raw_fd(fd.raw_fd()) },
            );
            file.write_all_at(bytes, at)
                .map_err(|e| format!("pages of a space: {e}"))?;
        }
    }
    Ok(())
}

/// Sets the process up as the image's first one. Returns only when that failed.
pub fn boot(source: impl FnOnce() -> Box<dyn Source>, then: Then) -> Failure {
    boot_in(run::Arenas::Empty, source, then)
}

/// The same, in arenas that may be filled by somebody else.
pub fn boot_in(arenas: run::Arenas, source: impl FnOnce() -> Box<dyn Source>, then: Then) -> Failure {
    let fds = match run::prepare(arenas) {
        Ok(fds) => fds,
        Err(f) => return f,
    };
    let mut source = source();
    alloc::set(Side::Host);
    let (then, gate) = match then {
        Then::Moved(gate) => (Then::Live, Some(gate)),
        then => (then, None),
    };
    let made = make(&mut *source, fds, then, gate.as_ref());
    let (machine, plans) = match made {
        Ok((m, plans)) => (&*Box::leak(Box::new(m)), plans),
        Err(f) => {
            alloc::set(Side::System);
            return f;
        }
    };
    // SAFETY: one process, one thread.
    let v = unsafe { vcpu::get() };
    v.machine = std::ptr::from_ref(machine).cast_mut();
    alloc::set(Side::System);
    let ready = fault::install()
        .and_then(|()| fault::create_timer())
        .map(|t| v.timer = t)
        .and_then(|()| crate::confine::confine(v.runtime_len));
    if let Err(e) = ready {
        return (EXIT_FAILED, format!("setting up the image: {e}"));
    }
    alloc::set(Side::Host);
    let Some((first, rest)) = plans.split_first() else {
        return missing("snapshot: no process in it");
    };
    if !rest.is_empty() {
        stay_on_this_cpu();
    }
    for plan in rest {
        let Some(seat) = machine.plat.spaces.seat(plan.id) else {
            return missing("snapshot: a process without a place");
        };
        if clone_process() == 0 {
            fill(machine, plan);
            run::child_start(plan.id, seat);
        }
    }
    fill(machine, first);
    if let Some(seat) = machine.plat.spaces.seat(first.id) {
        // SAFETY: this process is the one of that space.
        unsafe { sit_down(seat, v.tracker.as_ref()) };
    }
    std::mem::forget(plans);
    if let Err(e) = fault::arm_dispatch(v.runtime_len) {
        alloc::set(Side::System);
        return (EXIT_FAILED, format!("setting up the image: {e}"));
    }
    // Nothing can fail behind it: the source lets its image go.
    if let Some(gate) = gate {
        gate.wait();
        // SAFETY: as the kernel entry has it; this process has the token.
        come_live(unsafe { &mut *v.machine });
        gate.runs();
        std::mem::forget(gate);
        // SAFETY: as above.
        let m = unsafe { &mut *v.machine };
        let _side = alloc::enter(Side::Host);
        if let Err(why) = locks::take_again(&mut m.plat.live, m.kernel) {
            crate::talk::note(&why);
        }
    }
    // SAFETY: everything that the entry path needs is in place.
    unsafe { crate::entry::ftl_start_kernel() }
}

/// The image is this host's from here on: its address is, and its flows say where they stand.
fn come_live(m: &mut Machine) {
    let _side = alloc::enter(Side::Host);
    if let (Some(nic), Some(net)) = (&mut m.plat.live.nic, &m.kernel.config.net) {
        nic.announce(net);
    }
    m.plat.just_live = true;
}

fn make(
    source: &mut dyn Source,
    fds: Fds,
    then: Then,
    gate: Option<&Gate>,
) -> Result<(Machine, Vec<Plan>), Failure> {
    let mut saved = Saved::new();
    if let Then::TakeOver(meta) = &then {
        for (n, fd) in &meta.spaces {
            // SAFETY: the standby process left them for us.
            saved.insert(*n, Pages::sparse(Rc::new(unsafe { OwnedFd::from_raw_fd(*fd) })));
        }
    }
    let mut loaded = source
        .load(&mut |object, first, bytes| place(&mut saved, object, first, bytes))
        .map_err(missing)?;
    saved.extend(loaded.spaces.drain(..));
    let damaged = || missing("snapshot: its state is damaged");
    let mut state = HostState::decode(&loaded.state).ok_or_else(damaged)?;
    let (mut spec, origin) = start::decode(&state.start, false).ok_or_else(damaged)?;
    if state.anchor && !matches!(then, Then::Replay(..)) {
        return Err(missing(
            "snapshot: an anchor of a log, which a replay starts from: ftvm replay --at",
        ));
    }
    let kernel: &'static Kernel = super::root().ok_or_else(damaged)?;
    check_cpu(kernel)?;
    // Before there are descriptors of the image's: its pages' loader must not keep them open.
    let later = match loaded.rest.take() {
        None => Vec::new(),
        Some(rest) => lazy::begin(rest, kernel, &state, &mut saved).map_err(missing)?,
    };
    let mut plat = Plat::new(fds.pages).map_err(run::failed)?;
    plat.net.present = spec.net_host;
    plat.stamp = kernel.next_stamp();
    plat.mapped = state.mapped.iter().map(|h| Handle(*h)).collect();
    // A replay has all of them in its log; an image that is taken over has none.
    if let Then::Live | Then::Clone(_) = &then {
        let given = super::volumes::given(loaded.root.as_ref()).map_err(missing)?;
        let given = given.filter(|_| gate.is_none());
        let moved = super::volumes::relocate(&mut state, &mut spec, given.as_deref());
        plat.moved = moved.map_err(missing)?.map(Box::new);
    }
    let (mut takeover, mut tree) = (None, None);
    let (mut image, mut ports) = (loaded.image, Vec::new());
    let mut mode = match then {
        Then::Live | Then::Moved(_) => Mode::Run,
        Then::Clone(own) => {
            if own
                .of
                .is_some_and(|digest| !spec.rootfs.ends_with(format!("@{digest}").as_bytes()))
            {
                return Err(missing("snapshot: it is not of this image"));
            }
            let mut seed = [0; 32];
            plat.entropy(&mut seed);
            kernel.core.reseed(seed);
            let mut id = [0; 8];
            plat.entropy(&mut id);
            image = u64::from_le_bytes(id);
            ports = own.ports;
            Mode::Run
        }
        Then::TakeOver(mut meta) => {
            let place = state.log.ok_or_else(damaged)?;
            let log = std::mem::take(&mut meta.log);
            let r = Replayer::of_frames(loaded.image, log, &place)
                .ok_or_else(|| missing("takeover: the log does not go on from the snapshot"))?;
            let t = Takeover::new(&mut meta).ok_or_else(|| missing("takeover: its state is damaged"))?;
            let mut t = t;
            let wants = state.streams.iter().filter(|s| s.want > 0);
            t.wants = wants.map(|s| (Handle(s.handle), s.want as usize)).collect();
            takeover = Some(Box::new(t));
            // In every process of the image, before they are made: what runs later records.
            alloc::inputs_on_host(true);
            let mut r = r;
            r.goes_live();
            // Files of the old host that are not at their paths here, and what is known of those that are.
            tree = crate::protect::tree::Tree::find(loaded.image);
            if let Some(tree) = &mut tree {
                tree.passed(&meta.files);
                r.files = tree.files();
                tree.name_copies();
            }
            Mode::Replay(Box::new(r))
        }
        Then::Replay(dir, strace) => {
            let place = state
                .log
                .ok_or_else(|| missing("snapshot: not of a recorded image"))?;
            let (mut r, header) = Replayer::open_at(&dir, place.segment).map_err(missing)?;
            r.marks.go_on(origin.marks.0, origin.marks.1, place.marks_due);
            r.began = origin.clock.0;
            crate::cli::stops(&mut r);
            kernel.config.strace.set(strace);
            if header.image != loaded.image || !r.go_on_at(&place) {
                return Err(missing(format!(
                    "log {}: it does not go on from this snapshot",
                    dir.display()
                )));
            }
            Mode::Replay(Box::new(r))
        }
    };
    let replaying = matches!(mode, Mode::Replay(_));
    // A number that nobody gave us may be one of our own descriptors.
    let here: Vec<u32> = crate::stage0::inherited().iter().map(|(fd, _)| *fd).collect();
    spec.config.inherited.retain(|(fd, _)| here.contains(fd));
    let wake_fd = run::open_basics(&mut plat, &spec, replaying)?;
    let mut files = source.files();
    let interface = match (takeover.as_deref(), gate) {
        (Some(t), _) => t.interface.clone(),
        (None, Some(g)) => g.interface.clone(),
        (None, None) => String::from_utf8(state.interface.clone())
            .ok()
            .filter(|s| !s.is_empty()),
    };
    match &mut mode {
        Mode::Replay(r) => {
            // The log answers for all but what is mapped.
            for row in state.files.iter().filter(|f| f.hash.is_some()) {
                let identity = (row.path.clone(), row.size, row.hash.unwrap_or_default());
                let fd = r.files.open(&identity).map_err(missing)?;
                plat.handles.insert(Handle(row.handle), HostObject::File(fd));
            }
            // A takeover needs the others when it goes live; one that is not here fails its user then.
            for row in state
                .files
                .iter()
                .filter(|f| takeover.is_some() && f.hash.is_none())
            {
                let stand_in = tree.as_ref().map(|t| t.stand_in(row));
                if let Ok(fd) = reopen(stand_in.as_ref().unwrap_or(row), &mut files, false) {
                    plat.handles.insert(Handle(row.handle), HostObject::File(fd));
                }
            }
        }
        _ => {
            if let (Some(name), Some(net)) = (&interface, &kernel.config.net) {
                match gate {
                    // It says nothing yet.
                    Some(_) => run::open_quiet_nic(&mut plat, name, net)?,
                    None => run::open_nic(&mut plat, name, net)?,
                }
            }
            go_on_live(&mut plat, kernel, &state);
            reopen_all(&mut plat, &state, &mut files, &ports)?;
            // Of an image that moves they are its source's until that has let it go.
            if gate.is_none() {
                locks::take_again(&mut plat, kernel).map_err(missing)?;
            }
        }
    }
    // What was taken over is to have a backup again.
    plat.tracking = takeover.is_some();
    let mut plans = Vec::new();
    let mms = capture::spaces(kernel);
    for (id, maps) in state.spaces {
        let space = SpaceId(id);
        plat.spaces.add(space);
        plat.spaces.maps.insert(space, maps);
        let mm = mms.get(&space).ok_or_else(damaged)?;
        let pages = saved_of(&mut saved, id).map_err(run::failed)?.clone();
        let zero = loaded
            .zero
            .iter()
            .filter(|(n, ..)| *n == id)
            .map(|(_, first, count)| (*first, *count));
        plans.push(plan(&mut plat, mm, space, &pages, zero, &later).map_err(missing)?);
    }
    drop(mms);
    // The process that is made first has the token.
    plans.sort_by_key(|p| p.id.0 != state.here);
    let gdb = crate::gdb::open(&mut mode);
    let plat = Doors {
        live: plat,
        mode,
        loaded: true,
        guard: None,
        takeover,
        just_live: false,
        cut_ns: 0,
    };
    let machine = Machine {
        kernel,
        plat,
        wake_fd,
        gdb,
        fds,
        start: state.start,
        files,
        image,
        interface,
    };
    Ok((machine, plans))
}

/// MONOTONIC goes on from the image's time, the others step by the true gap.
fn go_on_live(plat: &mut Plat, kernel: &Kernel, state: &HostState) {
    let (now, then) = state.clock;
    plat.clock.go_on_from(now);
    let real = super::file::real_now();
    let gap = (real - then).max(0) as u64;
    let clock = kernel.core.clock;
    clock.real_offset.set((real as u64).wrapping_sub(now));
    clock.boot_offset.set(clock.boot_offset.get().wrapping_add(gap));
}

/// Host objects as the image had them.
fn reopen_all(
    plat: &mut Plat,
    state: &HostState,
    files: &mut Files,
    ports: &[(u16, u16)],
) -> Result<(), Failure> {
    for row in &state.files {
        let ours = plat.moved.as_ref().is_some_and(|m| m.has(Handle(row.handle)));
        let fd = reopen(row, files, ours).map_err(missing)?;
        plat.handles.insert(Handle(row.handle), HostObject::File(fd));
    }
    let mut told = Vec::new();
    for row in &state.sockets {
        let row = &super::clone::with_ports(row, ports);
        plat.net.thaw(row, &mut |input| told.push(input)).map_err(|e| {
            let local = super::show_addr(&row.local);
            missing(format!("socket {local}: {e:?}; is its port in use?"))
        })?;
    }
    for (stamp, input) in &state.inputs {
        // Buffers of inputs are the image's.
        plat.inputs
            .push_back((*stamp, alloc::on(Side::Image, || input.clone())));
    }
    for input in told {
        plat.push(input);
    }
    let mut redraw = false;
    for row in &state.streams {
        let h = Handle(row.handle);
        plat.handles
            .entry(h)
            .or_insert_with(|| HostObject::Stream(Stream::closed()));
        if row.want > 0 {
            plat.stream_want(h, row.want as usize);
        }
        if row.full {
            plat.push(Input::Writable(h));
        }
        if let Some(HostObject::Stream(s)) = plat.handles.get(&h)
            && s.kind == StreamKind::Terminal
        {
            s.set_termios(&row.termios);
            redraw = true;
        }
    }
    if redraw {
        // Another terminal has another size, and shows nothing of the program yet.
        plat.push(Input::Signal(libc::SIGWINCH));
    }
    Ok(())
}

/// Contexts hold vector state in the layout of the CPU that they ran on.
fn check_cpu(kernel: &Kernel) -> Result<(), Failure> {
    let (len, xcr0) = vcpu::xsave_facts();
    let c = &kernel.config;
    if (len, xcr0) != (c.xsave_len, c.xcr0) {
        return Err(missing(format!(
            "snapshot: taken on a CPU with other vector state (XCR0 {:#x}, here {xcr0:#x})",
            c.xcr0
        )));
    }
    match c.cpu.as_ref().and_then(crate::cpu::lacking) {
        Some(what) => Err(missing(format!(
            "snapshot: taken on a CPU with {what}, which this one has not"
        ))),
        None => Ok(()),
    }
}

/// A nameless file in the directory that a deleted one was in: it can be given a name there again.
fn nameless(row: &FileRow) -> Option<i32> {
    let end = row.path.iter().rposition(|b| *b == b'/')?;
    if row.flags & libc::O_ACCMODE == libc::O_RDONLY {
        return None;
    }
    let dir = CString::new(&row.path[..end.max(1)]).ok()?;
    let flags = libc::O_TMPFILE | libc::O_RDWR | libc::O_CLOEXEC;
    // SAFETY: a C string.
    let fd = unsafe { sys!(libc::SYS_open, dir.as_ptr(), flags, row.mode) };
    fd.ok().map(|fd| fd as i32)
}

/// Opens a file as the image had it. `ours`: it is in a directory of the image's own.
fn reopen(row: &FileRow, files: &mut Files, ours: bool) -> Result<i32, String> {
    let shown = String::from_utf8_lossy(&row.path).into_owned();
    if let Some(bytes) = &row.bytes {
        let fd = match nameless(row) {
            Some(fd) => fd,
            None => sys::memfd(c"ftvm-file", 0).map_err(|e| format!("file {shown}: {e}"))?,
        };
        use std::os::unix::fs::FileExt;
        // SAFETY: borrowed for this call only.
        let file = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(fd) });
        let flags = row.flags & (libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME);
        file.write_all_at(bytes, 0)
            .map_err(|e| format!("file {shown}: {e}"))?;
        // Without one of these flags, which the host's memory files do not all know, it is the same file.
        // SAFETY: plain calls on our own descriptor.
        unsafe {
            let _ = sys!(libc::SYS_fchmod, fd, row.mode);
            let _ = sys!(libc::SYS_fcntl, fd, libc::F_SETFL, flags);
        }
        return Ok(fd);
    }
    let path = crate::platform::root::on_host(&row.path).map_err(|why| format!("file {shown}: {why}"))?;
    let path = CString::new(path.into_os_string().into_encoded_bytes())
        .map_err(|_| format!("file {shown}: not a path"))?;
    // SAFETY: a C string.
    let opened = unsafe { sys!(libc::SYS_open, path.as_ptr(), row.flags | libc::O_CLOEXEC) };
    let fd = match opened {
        Err(e) if ours && row.regular && e.0 == libc::EACCES => {
            super::volumes::open_forbidden(&path, (row.flags & !libc::O_NOFOLLOW) | libc::O_CLOEXEC)
        }
        opened => opened,
    }
    .map_err(|e| format!("file {shown}, which the image has open: {e}"))? as i32;
    // What an image's digest names is what it was: nobody writes to its root.
    if let Some(hash) = row.hash
        && !crate::platform::root::is_of_image(&row.path)
    {
        let link = format!("/proc/self/fd/{fd}");
        match files.identity(std::path::Path::new(&link)) {
            Some((_, h)) if h == hash => {}
            _ => {
                return Err(format!(
                    "file {shown}, which the image has mapped: other contents than then"
                ));
            }
        }
    }
    Ok(fd)
}

/// One mapping of a space that is to be made.
struct Step {
    start: u64,
    len: u64,
    prot: i32,
    flags: i32,
    fd: i32,
    off: u64,
    /// The process has pages of its own over the file.
    over: bool,
    /// Pages whose text was looked at: they may be executed, unlike the rest of the mapping.
    looked: Vec<u64>,
    /// Their protection.
    looked_prot: i32,
    /// Pages over the file that hold nothing.
    zero: Vec<u64>,
}

/// What a process maps to become its space. Made before there are several, since they look at one arena.
struct Plan {
    id: SpaceId,
    saved: Pages,
    steps: Vec<Step>,
    /// What is not there yet.
    later: Vec<Extent>,
}

/// Plans a space; what was anonymous shows the snapshot's pages from now on.
fn plan(
    plat: &mut Plat,
    mm: &Mm,
    id: SpaceId,
    saved: &Pages,
    zero: impl Iterator<Item = (u64, u64)>,
    later: &[Extent],
) -> Result<Plan, String> {
    use std::os::unix::fs::FileExt;
    // SAFETY: borrowed for this function only.
    let pages = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(saved.raw_fd()) });
    let mut zeros = Vec::new();
    for (first, count) in zero {
        for page in first..first + count {
            let at = page * PAGE;
            let over_file = plat.spaces.maps.get(&id).is_some_and(|m| {
                matches!(
                    m.parts(at, at + PAGE).first(),
                    Some((_, _, Some(Under::File(..) | Under::Private(_))))
                )
            });
            if over_file && saved.is_packed() {
                zeros.push(at);
            } else if over_file {
                pages
                    .write_all_at(&[0; PAGE as usize], at)
                    .map_err(|e| format!("pages of a space: {e}"))?;
            }
        }
    }
    let later = lazy::of_space(later, id);
    let mut maps = plat.spaces.maps.remove(&id).unwrap_or_default();
    let mut steps = Vec::new();
    for v in mm.list() {
        for (start, end, under) in maps.parts(v.start, v.end) {
            let comes = later.get(later.partition_point(|x| x.end() <= start));
            let data =
                saved.next(start).is_some_and(|(s, ..)| s < end) || comes.is_some_and(|x| x.start < end);
            let private = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_NORESERVE;
            let anon = matches!(under, None | Some(Under::Saved(_)));
            let host_prot = mm.host_prot(&v);
            let mut step = |start: u64, end: u64, flags, fd, off| {
                steps.push(Step {
                    start,
                    len: end - start,
                    prot: prot_bits(host_prot),
                    flags,
                    fd,
                    off,
                    looked: match host_prot == v.prot {
                        true => Vec::new(),
                        false => mm.patches.borrow().looked.range(start..end).copied().collect(),
                    },
                    looked_prot: prot_bits(v.prot),
                    over: data && matches!(under, Some(Under::File(..) | Under::Private(_))),
                    zero: zeros
                        .iter()
                        .copied()
                        .filter(|z| (start..end).contains(z))
                        .collect(),
                });
            };
            match under {
                Some(Under::File(h, off)) => {
                    let fd = plat
                        .fd(h)
                        .map_err(|_| format!("file {} of a mapping is not open", h.0))?;
                    step(start, end, private & !libc::MAP_NORESERVE, fd, off);
                }
                Some(Under::Shared(off)) => {
                    step(start, end, libc::MAP_FIXED | libc::MAP_SHARED, plat.pages_fd, off)
                }
                Some(Under::Private(off)) => step(start, end, private, plat.pages_fd, off),
                _ if data && !saved.is_packed() => step(start, end, private, saved.raw_fd(), start),
                _ => step(start, end, private | libc::MAP_ANONYMOUS, -1, 0),
            }
            if !anon {
                continue;
            }
            maps.cut(start, end);
            if data && !saved.is_packed() {
                maps.set(start, end, Under::Saved(start));
                continue;
            }
            let mut at = start;
            while let Some((from, to, off)) = saved.next(at).filter(|(from, ..)| *from < end) {
                at = to.min(end);
                step(from, at, private, saved.raw_fd(), off);
                maps.set(from, at, Under::Saved(off));
            }
        }
    }
    maps.set_saved(saved.fd().clone());
    plat.spaces.maps.insert(id, maps);
    Ok(Plan {
        id,
        saved: saved.clone(),
        steps,
        later: later.to_vec(),
    })
}

/// In the process of a space: makes its mappings. Only looks at what is shared.
fn fill(m: &Machine, plan: &Plan) {
    // SAFETY: the vCPU page of this process.
    let v = unsafe { vcpu::get() };
    v.space = plan.id;
    if m.plat.live.tracking {
        v.tracker = crate::dirty::Tracker::new().ok();
    }
    let _side = alloc::enter(Side::System);
    unmap_guest();
    if let Err(e) = steps(plan).and_then(|()| lazy::adopt(&plan.later)) {
        run::fail_stop(&format!("restoring a process: {e}"));
    }
}

fn steps(plan: &Plan) -> Result<(), String> {
    use std::os::unix::fs::FileExt;
    let mem = std::fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/mem")
        .map_err(|e| format!("/proc/self/mem: {e}"))?;
    // SAFETY: borrowed for this function only.
    let pages = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(plan.saved.raw_fd()) });
    let mut buf = vec![0u8; 256 << 10];
    for s in &plan.steps {
        let end = s.start + s.len;
        // SAFETY: guest memory of a process that has not run.
        unsafe { sys::mmap(s.start, s.len, s.prot, s.flags, s.fd, s.off) }
            .map_err(|e| format!("mapping {:#x}: {e}", s.start))?;
        let mut at = s.start;
        while s.over
            && let Some((from, to, off)) = plan.saved.next(at).filter(|(from, ..)| *from < end)
        {
            at = from;
            while at < to.min(end) {
                let n = (to.min(end) - at).min(buf.len() as u64) as usize;
                pages
                    .read_exact_at(&mut buf[..n], off + (at - from))
                    .map_err(|e| e.to_string())?;
                // By this way pages without write permission can be written too.
                mem.write_all_at(&buf[..n], at)
                    .map_err(|e| format!("writing {at:#x}: {e}"))?;
                at += n as u64;
            }
        }
        for page in &s.zero {
            mem.write_all_at(&[0; PAGE as usize], *page)
                .map_err(|e| format!("writing {page:#x}: {e}"))?;
        }
        for page in &s.looked {
            // SAFETY: a page of the mapping just made.
            unsafe { sys!(libc::SYS_mprotect, *page, PAGE, s.looked_prot) }
                .map_err(|e| format!("protecting {page:#x}: {e}"))?;
        }
    }
    Ok(())
}
