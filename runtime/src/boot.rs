//! Set-up of an image's first process: arenas, doors, host objects, the kernel.

use crate::alloc::{self, Side};
use crate::door::record::Recorder;
use crate::door::replay::Replayer;
use crate::door::start::{self, Origin};
use crate::door::{Doors, Mode};
use crate::platform::{HostObject, Plat, streams::Stream};
use crate::protect::Wanted;
use crate::run::{EXIT_BROKEN, EXIT_FAILED, Fds, Machine, Spec, die, what_was_running};
use crate::sys::{self, sys};
use crate::vcpu;
use crate::{entry, fault, stage0};
use ftl_abi::kernel::{Config, Kernel};
use ftl_core::clock::Clock;
use ftl_core::kcore::Core;
use ftl_core::layout::{ARENA, ARENA_LEN, CLOCK_ADDR, HOST_ARENA, HOST_ARENA_LEN, PAGES, PAGES_LEN};
use ftl_core::log::Record;
use ftl_core::platform::{Handle, Host};
use ftl_core::wait::SpaceId;
use std::path::PathBuf;

/// What is in the image's arenas at first.
#[derive(Clone, Copy, Debug)]
pub enum Arenas {
    /// Nothing yet, and an allocator.
    Fresh,
    /// Nothing: a snapshot fills them.
    Empty,
    /// A snapshot, in these memfds.
    Given {
        /// Image arena.
        arena: i32,
        /// Page store.
        pages: i32,
    },
}

/// Maps the arenas. That of the image gets an allocator unless a snapshot is to fill it.
fn map_arenas(arenas: Arenas) -> Result<Fds, sys::HostErr> {
    let (own_arena, own_pages) = match arenas {
        Arenas::Given { arena, pages } => (Some(arena), Some(pages)),
        Arenas::Fresh | Arenas::Empty => (None, None),
    };
    let map = |name, base, len, given: Option<i32>| {
        let fd = match given {
            Some(fd) => fd,
            None => sys::memfd(name, len)?,
        };
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
        // SAFETY: NOREPLACE takes only free space.
        unsafe { sys::mmap(base, len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) }?;
        Ok(fd)
    };
    crate::snap::changes::map_shadows()?;
    map(c"ftvm-host", HOST_ARENA, HOST_ARENA_LEN, None)?;
    let arena = map(c"ftvm-image", ARENA, ARENA_LEN, own_arena)?;
    let pages = map(c"ftvm-pages", PAGES, PAGES_LEN, own_pages)?;
    // SAFETY: mapped above, zeroed, unused.
    unsafe {
        alloc::create(HOST_ARENA, HOST_ARENA_LEN);
        if matches!(arenas, Arenas::Fresh) {
            alloc::create(ARENA, ARENA_LEN);
        }
    }
    Ok(Fds { arena, pages })
}

/// What every first process of an image does, new or restored.
pub fn prepare(arenas: Arenas) -> Result<Fds, Failure> {
    let setup = |what: &str, e: &dyn std::fmt::Display| (EXIT_FAILED, format!("{what}: {e}"));
    vcpu::map(stage0::runtime_len()).map_err(|e| setup("mapping the vCPU page", &e))?;
    let fds = map_arenas(arenas).map_err(|e| setup("mapping the arenas", &e))?;
    std::panic::set_hook(Box::new(|info| {
        alloc::set(Side::System);
        let why = format!("kernel panic: {info}; {}", what_was_running());
        crate::talk::error("panic", EXIT_BROKEN, &why);
        die(EXIT_BROKEN)
    }));
    // Its tables are static and allocated on first use: that must not be in the image.
    ftl_loader::patch::warm_up();
    Ok(fds)
}

/// Sets the process up and runs the guest. Returns only when it could not be started.
pub fn boot(make: impl FnOnce() -> Start) -> (i32, String) {
    let runtime_len = stage0::runtime_len();
    let setup = |what: &str, e: &dyn std::fmt::Display| (EXIT_FAILED, format!("{what}: {e}"));
    let fds = match prepare(Arenas::Fresh) {
        Ok(fds) => fds,
        Err(f) => return f,
    };
    let start = make();
    alloc::set(Side::Host);
    let (machine, spec) = match build(fds, start) {
        Ok((m, spec)) => (Box::leak(Box::new(m)), spec),
        Err((code, why)) => {
            alloc::set(Side::System);
            return (code, why);
        }
    };
    // SAFETY: one process, one thread.
    let v = unsafe { vcpu::get() };
    v.machine = machine;
    alloc::set(Side::Image);
    let started = {
        crate::door::compare::scrub();
        // The image's own copies.
        let (path, argv, envp) = (spec.path.clone(), spec.argv.clone(), spec.envp.clone());
        machine.kernel.start(&mut machine.plat, &path, argv, envp)
    };
    alloc::set(Side::System);
    if let (Err(e), Mode::Replay(r)) = (&started, &mut machine.plat.mode) {
        // As recorded, if the log has nothing more: then the program could not be started there either.
        if r.exhausted() {
            r.missing("the program's start");
        }
        r.diverged("start", "a program that can be executed", &e.why);
    }
    if let Err(e) = started {
        use ftl_core::errno::Errno;
        let code = if matches!(e.errno, Errno::ENOENT | Errno::ENOTDIR) {
            127
        } else {
            126
        };
        return (code, e.why);
    }
    let armed = fault::install()
        .and_then(|()| fault::create_timer())
        .map(|t| v.timer = t)
        .and_then(|()| crate::confine::confine(runtime_len))
        .and_then(|()| fault::arm_dispatch(runtime_len));
    if let Err(e) = armed {
        return setup("arming the system-call catch-all", &e);
    }
    // SAFETY: everything that the entry path needs is in place.
    unsafe { entry::ftl_start_kernel() }
}

/// How the image begins: afresh, with or without a log, or as a log says.
pub enum Start {
    /// A program to run, and what is kept of it.
    Fresh(Box<Spec>, Keep),
    /// The log's directory, and whether to print every call.
    Log(PathBuf, bool),
}

/// What is kept of a run.
pub enum Keep {
    /// Nothing.
    Nothing,
    /// A log.
    Log(Recording),
    /// A backup.
    Backup(Box<Wanted>),
}

/// How a run is recorded.
pub struct Recording {
    /// The log's directory.
    pub dir: PathBuf,
    /// Hash the memory of every address space at its end.
    pub check_memory: bool,
    /// Entries between two marks, and whether they hold contents.
    pub marks: (u64, bool),
    /// Leave out of the log what was as predicted.
    pub predict: bool,
    /// Entries between two anchors, and bytes of log (0: neither is a reason for one).
    pub anchors: (u64, u64),
    /// Seed of `--chaos`.
    pub chaos: Option<u64>,
}

/// Exit code and reason.
pub type Failure = (i32, String);

/// A host call of set-up failed.
pub fn failed(e: impl std::fmt::Display) -> Failure {
    (EXIT_FAILED, format!("setting up the image: {e}"))
}

/// The mode of the doors, what is run, and what came from the host at its start.
fn open_doors(start: Start, plat: &mut Plat) -> Result<(Mode, Spec, Origin, Option<Box<Wanted>>), Failure> {
    let (spec, keep) = match start {
        Start::Log(dir, strace) => {
            let bad = |why| (crate::door::replay::EXIT_INCOMPATIBLE, why);
            let (mut replayer, _) = Replayer::open(&dir).map_err(bad)?;
            let decoded = replayer.start().and_then(|b| start::decode(&b, strace));
            let (spec, origin) =
                decoded.ok_or_else(|| bad(format!("log {}: its first record is damaged", dir.display())))?;
            if let Some(what) = spec.config.cpu.as_ref().and_then(crate::cpu::lacking) {
                return Err(bad(format!(
                    "log {}: recorded on a CPU with {what}, which this one has not",
                    dir.display()
                )));
            }
            replayer.check_memory = origin.check_memory;
            replayer.began = origin.clock.0;
            crate::cli::stops(&mut replayer);
            (replayer.marks.every, replayer.marks.contents) = origin.marks;
            return Ok((Mode::Replay(Box::new(replayer)), spec, origin, None));
        }
        Start::Fresh(spec, keep) => (*spec, keep),
    };
    let mut seed = [0; 32];
    plat.entropy(&mut seed);
    let now = plat.clock.now();
    let real = sys::clock_ns(libc::CLOCK_REALTIME);
    let boot = sys::clock_ns(libc::CLOCK_BOOTTIME);
    let origin = Origin {
        marks: match &keep {
            Keep::Log(l) => l.marks,
            _ => (0, false),
        },
        seed,
        clock: (now, real.wrapping_sub(now), boot.saturating_sub(now)),
        check_memory: matches!(
            keep,
            Keep::Log(Recording {
                check_memory: true,
                ..
            })
        ),
    };
    let mut image = [0; 8];
    plat.entropy(&mut image);
    let image = u64::from_le_bytes(image);
    let mut wanted = None;
    let mut recorder = match keep {
        Keep::Nothing => return Ok((Mode::Run, spec, origin, None)),
        Keep::Log(Recording {
            dir,
            predict,
            anchors,
            ..
        }) => {
            let mut r = Recorder::create(&dir, image).map_err(|e| (EXIT_FAILED, e.to_string()))?;
            r.predict = predict;
            r.anchors.began = now;
            (r.anchors.every, r.anchors.bytes) = anchors;
            r.files.writable = writable_dirs(&spec.config, &[]);
            r
        }
        Keep::Backup(w) => {
            let image = crate::protect::chosen_image().unwrap_or(image);
            let mut r = Recorder::shipping(image, 0, &Default::default());
            r.predict = w.policy.commit != crate::protect::Commit::LogAll;
            wanted = Some(w);
            r
        }
    };
    recorder.check_memory = origin.check_memory;
    (recorder.marks.every, recorder.marks.contents) = origin.marks;
    recorder.put(&Record::Start(start::encode(&spec, &origin)));
    // A writer that dies at once leaves a log that says what it was to be.
    recorder.flush();
    alloc::inputs_on_host(true);
    Ok((Mode::Record(Box::new(recorder)), spec, origin, wanted))
}

/// Host directories that the image may write; `moved`: which of them are elsewhere since a restore, and where.
pub fn writable_dirs(config: &Config, moved: &[(Vec<u8>, Vec<u8>)]) -> Vec<Vec<u8>> {
    let own = config.mounts.cwd.then(|| config.cwd.clone());
    let volumes = config.mounts.volumes.iter().filter(|(_, _, ro)| !ro);
    own.into_iter()
        .chain(volumes.map(|(host, ..)| host.clone()))
        .map(|dir| match moved.iter().find(|(was, _)| *was == dir) {
            Some((_, now)) => now.clone(),
            None => dir,
        })
        .collect()
}

/// Opens the host interface of an image with its own TCP/IP, and tells the network.
pub fn open_nic(plat: &mut Plat, name: &str, net: &ftl_abi::kernel::NetConfig) -> Result<(), Failure> {
    open_quiet_nic(plat, name, net)?;
    if let Some(nic) = &mut plat.nic {
        // Whoever had the address before us: its neighbours learn at once.
        nic.announce(net);
    }
    Ok(())
}

/// The same without a word: another host has the address still.
pub fn open_quiet_nic(plat: &mut Plat, name: &str, net: &ftl_abi::kernel::NetConfig) -> Result<(), Failure> {
    let mut addrs: Vec<std::net::IpAddr> = net.addrs.iter().map(|(a, _)| *a).collect();
    addrs.extend(net.link_local().map(std::net::IpAddr::V6));
    let mut nic =
        crate::platform::net::nic::Nic::open(name, net.mac, &addrs).map_err(|e| (EXIT_FAILED, e))?;
    if !net.answers {
        nic.responder = Some(ftl_tcpip::respond::Responder::new(net));
    }
    let fd = nic.raw_fd();
    let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
    let token = mio::Token(ftl_core::platform::NIC.0 as usize);
    plat.poll
        .registry()
        .register(&mut mio::unix::SourceFd(&fd), token, both)
        .map_err(failed)?;
    plat.nic = Some(nic);
    Ok(())
}

/// The host objects that every image has: its streams, the host's tree, the waker. Returns the waker.
pub fn open_basics(plat: &mut Plat, spec: &Spec, replaying: bool) -> Result<i32, Failure> {
    if let Some(path) = crate::platform::layer::place().filter(|_| !replaying) {
        let name = path.display().to_string();
        let layer = crate::platform::layer::Layer::open(path);
        plat.layer = Some(layer.map_err(|e| (EXIT_FAILED, format!("{name}: {e}")))?);
    }
    for fd in 0..3 {
        plat.handles
            .insert(Handle(fd as u64), HostObject::Stream(Stream::open(fd)));
    }
    if !replaying {
        for (fd, _) in &spec.config.inherited {
            let h = ftl_abi::kernel::inherited_handle(*fd);
            plat.handles
                .insert(h, HostObject::Stream(Stream::open(*fd as i32)));
        }
    }
    let rootfs = match crate::platform::root::on_host(&spec.rootfs) {
        Ok(dir) => dir.into_os_string().into_encoded_bytes(),
        // As below.
        Err(_) if replaying => b"/".to_vec(),
        Err(why) => return Err((crate::door::replay::EXIT_INCOMPATIBLE, why)),
    };
    // SAFETY: plain calls.
    let (root, top, wake_fd) = unsafe {
        // Modes of new files are the image's to decide.
        libc::umask(0);
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let path = std::ffi::CString::new(rootfs).unwrap_or_default();
        let root = match sys!(libc::SYS_open, path.as_ptr(), flags) {
            Ok(fd) => fd,
            // A replay asks the log, not the host.
            Err(_) if replaying => sys!(libc::SYS_open, c"/".as_ptr(), flags).map_err(failed)?,
            Err(e) => return Err(failed(e)),
        };
        let top = sys!(libc::SYS_open, c"/".as_ptr(), flags).map_err(failed)?;
        let wake = sys!(libc::SYS_eventfd2, 0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).map_err(failed)?;
        (root as i32, top as i32, wake as i32)
    };
    plat.handles
        .insert(ftl_abi::fs::HOST_ROOT, HostObject::File(root));
    plat.handles.insert(ftl_abi::fs::HOST_TOP, HostObject::File(top));
    plat.poll
        .registry()
        .register(
            &mut mio::unix::SourceFd(&wake_fd),
            crate::platform::WAKE_TOKEN,
            mio::Interest::READABLE,
        )
        .map_err(failed)?;
    Ok(wake_fd)
}

// Not inlined: what it has on the stack is its own.
#[inline(never)]
fn make_kernel(clock: &'static Clock, seed: [u8; 32], config: &Config) -> &'static Kernel {
    alloc::on(Side::Image, || {
        let kernel = Kernel::new(Core::new(clock, seed), config.clone());
        &*Box::leak(Box::new(kernel))
    })
}

fn build(fds: Fds, start: Start) -> Result<(Machine, Spec), Failure> {
    let mut plat = Plat::new(fds.pages).map_err(failed)?;
    let (mut mode, spec, origin, wanted) = open_doors(start, &mut plat)?;
    plat.net.present = spec.net_host;
    if let (Some(name), Some(net)) = (&spec.interface, &spec.config.net) {
        open_nic(&mut plat, name, net)?;
    }
    let wake_fd = open_basics(&mut plat, &spec, matches!(mode, Mode::Replay(_)))?;
    let image = match &mode {
        Mode::Record(r) => r.image(),
        _ => {
            let mut id = [0; 8];
            plat.entropy(&mut id);
            u64::from_le_bytes(id)
        }
    };
    let guard = match wanted {
        Some(w) => Some(Box::new(w.guard(image, &mut plat).map_err(failed)?)),
        None => None,
    };
    plat.spaces.add(SpaceId(0));
    // SAFETY: one process, one thread.
    let v = unsafe { vcpu::get() };
    if guard.is_some() {
        plat.tracking = true;
        v.tracker = crate::dirty::Tracker::new().ok();
    }
    if let Some(seat) = plat.spaces.seat(SpaceId(0)) {
        // SAFETY: the first space is this process.
        unsafe { crate::platform::space::sit_down(seat, v.tracker.as_ref()) };
    }
    // SAFETY: the arena's first page is reserved for the clock, zeroed, and made of Cells.
    let clock: &'static Clock = unsafe { &*(CLOCK_ADDR as *const Clock) };
    clock.start(origin.clock.0, origin.clock.1, origin.clock.2);
    let seed = origin.seed;
    crate::door::compare::scrub();
    let kernel = make_kernel(clock, seed, &spec.config);
    crate::snap::set_root(kernel);
    let gdb = crate::gdb::open(&mut mode);
    let plat = Doors {
        live: plat,
        mode,
        loaded: false,
        guard,
        takeover: None,
        just_live: false,
        cut_ns: 0,
    };
    Ok((
        Machine {
            kernel,
            plat,
            wake_fd,
            gdb,
            fds,
            start: start::encode(&spec, &origin),
            image,
            interface: spec.interface.clone(),
            files: Default::default(),
        },
        spec,
    ))
}
