//! Taking a snapshot: by the process that holds the token, on its kernel stack, between two tasks.
//! Everything here is on the host's side; the image only sees that its vector state was written out.

use super::state::{FileRow, HostState, StreamRow};
use super::{Object, Sink, travel};
use crate::alloc;
use crate::dirty::Scanner;
use crate::door::Mode;
use crate::door::files::Files;
use crate::platform::maps::{Maps, Part, Under};
use crate::platform::{HostObject, Plat};
use crate::run::Machine;
use crate::sys::{self, HostErr, sys};
use ftl_abi::kernel::Kernel;
use ftl_abi::mm::Mm;
use ftl_core::layout::{ARENA, PAGE, PAGES};
use ftl_core::platform::Handle;
use ftl_core::wait::SpaceId;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Bytes that are read at once.
pub const CHUNK: u64 = 1 << 20;

/// Names of files that are no files: handles from this number on are the image's own.
const FIRST_HANDLE: u64 = 16;

fn failed(what: &str, e: HostErr) -> String {
    format!("{what}: {e}")
}

/// The address spaces that live tasks use, by number. Not to be held while the arena is copied: the copy
/// would have the counts of these references.
pub fn spaces(kernel: &Kernel) -> BTreeMap<SpaceId, Rc<Mm>> {
    let tasks = kernel.tasks.borrow();
    tasks
        .values()
        .filter(|t| !t.dead.get())
        .map(|t| (t.mm().space, t.mm()))
        .collect()
}

/// Everything but pages; an error if something cannot be taken along.
pub fn host_state(
    m: &mut Machine,
    here: SpaceId,
    files: &mut Files,
    breathe: &mut dyn FnMut(),
) -> Result<HostState, String> {
    let (mut state, unable) = survey(m, files, breathe)?;
    state.here = here.0;
    match travel::refusal(&unable) {
        Some(why) => Err(why),
        None => Ok(state),
    }
}

/// Everything but pages, and what cannot be taken along.
pub fn survey(
    m: &mut Machine,
    files: &mut Files,
    breathe: &mut dyn FnMut(),
) -> Result<(HostState, Vec<travel::Note>), String> {
    let now = m.plat.live.clock.now();
    let plat = &m.plat.live;
    let mapped: std::collections::BTreeSet<Handle> = plat
        .spaces
        .maps
        .values()
        .flat_map(crate::platform::maps::Maps::files)
        .collect();
    let mut state = HostState {
        start: m.start.clone(),
        clock: (now, i128::from(sys::clock_ns(libc::CLOCK_REALTIME))),
        entries: m.kernel.entries.get(),
        sockets: plat.net.freeze(),
        spaces: plat
            .spaces
            .maps
            .iter()
            .map(|(id, maps)| (id.0, maps.clone()))
            .collect(),
        inputs: plat.inputs.iter().cloned().collect(),
        log: None,
        interface: m.interface.clone().unwrap_or_default().into_bytes(),
        mapped: plat.mapped.iter().map(|h| h.0).collect(),
        ..HostState::default()
    };
    if let Some(m) = &plat.moved {
        state.moved.clone_from(&m.dirs);
        state.moved_map = m.map.encode();
    }
    if let Mode::Record(r) = &mut m.plat.mode {
        // What follows the snapshot is in frames of its own.
        r.flush();
        state.log = Some(r.place());
    }
    let mut unable = Vec::new();
    let plat = &m.plat.live;
    for (h, object) in &plat.handles {
        match object {
            HostObject::Stream(s) => state.streams.push(StreamRow {
                handle: h.0,
                want: s.want as u64,
                full: s.full,
                termios: s.termios().unwrap_or_default(),
            }),
            HostObject::File(_) | HostObject::Shared(_) if h.0 >= FIRST_HANDLE => {
                match file_row(*h, object.fd(), mapped.contains(h), files, breathe)? {
                    Ok(row) => state.files.push(row),
                    Err(note) => unable.push(note),
                }
            }
            HostObject::File(_) | HostObject::Shared(_) => {}
        }
    }
    Ok((state, unable))
}

/// Everything but pages of a recorded image, for a replay that starts here: the log answers for all of the host but
/// the files that are mapped, and keeps the contents of those that may change.
pub fn anchor(m: &mut Machine, here: SpaceId) -> Result<HostState, String> {
    let now = m.plat.live.clock.now();
    let plat = &m.plat.live;
    let mut state = HostState {
        start: m.start.clone(),
        clock: (now, i128::from(sys::clock_ns(libc::CLOCK_REALTIME))),
        entries: m.kernel.entries.get(),
        spaces: plat
            .spaces
            .maps
            .iter()
            .map(|(id, maps)| (id.0, maps.clone()))
            .collect(),
        mapped: plat.mapped.iter().map(|h| h.0).collect(),
        here: here.0,
        anchor: true,
        ..HostState::default()
    };
    let mapped: std::collections::BTreeSet<Handle> =
        plat.spaces.maps.values().flat_map(Maps::files).collect();
    let Mode::Record(r) = &mut m.plat.mode else {
        return Err("the image is not recorded".to_string());
    };
    if r.has_failed() {
        return Err("the log has ended".to_string());
    }
    state.log = Some(r.place());
    for h in mapped {
        let fd = m
            .plat
            .live
            .fd(h)
            .map_err(|_| format!("mapped file {} is not open", h.0))?;
        let (path, size, hash) = r
            .files
            .mapped(fd, &mut || {})
            .ok_or_else(|| format!("mapped file {}: it cannot be read", h.0))?;
        state.files.push(FileRow {
            handle: h.0,
            path,
            size,
            regular: true,
            hash: Some(hash),
            ..FileRow::default()
        });
    }
    Ok(state)
}

/// No file without a name is taken along beyond this size.
pub const MOST_NAMELESS: u64 = 256 << 20;

fn file_row(
    h: Handle,
    fd: i32,
    mapped: bool,
    files: &mut Files,
    breathe: &mut dyn FnMut(),
) -> Result<Result<FileRow, travel::Note>, String> {
    let link = format!("/proc/self/fd/{fd}");
    let mut path = std::fs::read_link(&link).map_err(|e| format!("open file {}: {e}", h.0))?;
    // SAFETY: no pointers.
    let flags = unsafe { sys!(libc::SYS_fcntl, fd, libc::F_GETFL) }.map_err(|e| failed("fcntl", e))? as i32;
    let meta = std::fs::metadata(&link).map_err(|e| format!("{}: {e}", path.display()))?;
    if meta.nlink() > 0
        && travel::is_deleted(&path)
        && let Some(other) = other_name(&path, &meta)
    {
        path = other;
    }
    // Once made, such a file is opened like any other.
    let made = match flags & libc::O_TMPFILE == libc::O_TMPFILE {
        true => libc::O_TMPFILE,
        false => 0,
    };
    let mut row = FileRow {
        handle: h.0,
        path: path.as_os_str().as_bytes().to_vec(),
        flags: flags & !(made | libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_NOCTTY),
        size: meta.len(),
        mode: meta.permissions().mode() & 0o7777,
        regular: meta.is_file(),
        hash: None,
        bytes: None,
    };
    if travel::is_deleted(&path) {
        let shown = path.to_string_lossy();
        if !meta.is_file() {
            let kind = if meta.is_dir() { "directory" } else { "file" };
            return Ok(Err(travel::nameless(kind, &shown)));
        }
        if meta.len() > MOST_NAMELESS {
            return Ok(Err(travel::too_large(&shown)));
        }
        row.bytes = Some(whole_file(fd, meta.len()).map_err(|e| format!("{shown}: {e}"))?);
    } else if mapped {
        // Without a hash a restore could not tell whether it is the same file.
        let found = files.identity_breathing(Path::new(&link), breathe);
        let (_, hash) = found.ok_or_else(|| {
            format!(
                "{}: the image has mapped this file, and it cannot be read here any more: give its owner leave to read it",
                path.display()
            )
        })?;
        row.hash = Some(hash);
    }
    row.path = crate::platform::root::named(row.path);
    Ok(Ok(row))
}

/// Another name of a deleted file in the directory that it was in.
fn other_name(path: &Path, meta: &std::fs::Metadata) -> Option<PathBuf> {
    let found = std::fs::read_dir(path.parent()?)
        .ok()?
        .flatten()
        .map(|e| e.path());
    let mut found = found.filter(|p| {
        p.symlink_metadata()
            .is_ok_and(|m| (m.dev(), m.ino()) == (meta.dev(), meta.ino()))
    });
    found.next()
}

/// Contents of an open file, which may be open for writing only.
fn whole_file(fd: i32, len: u64) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    // SAFETY: borrowed for this call only.
    let own = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(fd) });
    let mut bytes = vec![0; len as usize];
    if own.read_exact_at(&mut bytes, 0).is_err() {
        std::fs::File::open(format!("/proc/self/fd/{fd}"))?.read_exact_at(&mut bytes, 0)?;
    }
    Ok(bytes)
}

/// Gives every page of the image to `sink`.
pub fn pages(m: &mut Machine, sink: &mut dyn Sink) -> Result<(), String> {
    shared(m.fds.arena, ARENA, Object::Arena, sink)?;
    shared(m.fds.pages, PAGES, Object::Store, sink)?;
    for (id, mm) in &spaces(m.kernel) {
        space(&m.plat.live, *id, mm, sink)?;
    }
    Ok(())
}

/// Pages of a memfd that is mapped at `base`.
fn shared(fd: i32, base: u64, object: Object, sink: &mut dyn Sink) -> Result<(), String> {
    let mut at = 0;
    while let Some((start, end)) = next_data(fd, at) {
        // SAFETY: the memfd is mapped whole at `base`, and nobody else runs.
        let bytes =
            unsafe { std::slice::from_raw_parts((base + start) as *const u8, (end - start) as usize) };
        sink.pages(object, start / PAGE, bytes)?;
        at = end;
    }
    Ok(())
}

/// The next range of a memfd from `at` on that is no hole.
pub fn next_data(fd: i32, at: u64) -> Option<(u64, u64)> {
    // SAFETY: no pointers.
    unsafe {
        let start = sys!(libc::SYS_lseek, fd, at, libc::SEEK_DATA).ok()?;
        let end = sys!(libc::SYS_lseek, fd, start, libc::SEEK_HOLE).ok()?;
        Some((start, end))
    }
}

fn space(plat: &Plat, id: SpaceId, mm: &Mm, sink: &mut dyn Sink) -> Result<(), String> {
    let memory = Process::open(plat.spaces.started(id)?)?;
    let Some(maps) = plat.spaces.maps.get(&id) else {
        return Ok(());
    };
    let mut buf = vec![0; CHUNK as usize];
    for v in mm.list() {
        for part in maps.parts(v.start, v.end) {
            if let Some(Under::Shared(_)) = part.2 {
                continue;
            }
            for (s, e) in all_pages(plat, &memory, id, part)? {
                memory.read(s, e, &mut buf, &mut |at, bytes| {
                    sink.pages(Object::Space(id.0), at / PAGE, bytes)
                })?;
            }
        }
    }
    Ok(())
}

/// Runs of all pages that a space has of its own in a part of it, those included that it has not
/// copied from its snapshot yet.
pub fn all_pages(plat: &Plat, memory: &Process, id: SpaceId, part: Part) -> Result<Vec<(u64, u64)>, String> {
    let (start, end, under) = part;
    let mut runs = memory.own_pages(start, end)?;
    let saved = plat.spaces.maps.get(&id).and_then(Maps::saved_fd);
    if let (Some(Under::Saved(off)), Some(fd)) = (under, saved) {
        let mut at = off;
        while let Some((s, e)) = next_data(fd, at).filter(|(s, _)| *s < off + (end - start)) {
            runs.push((start + (s - off), (start + (e - off)).min(end)));
            at = e;
        }
        runs = merged(runs);
    }
    Ok(runs)
}

/// Overlapping ranges made one, ascending.
pub fn merged(mut runs: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    runs.sort_unstable();
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (s, e) in runs {
        match out.last_mut() {
            Some(last) if s <= last.1 => last.1 = last.1.max(e),
            _ => out.push((s, e)),
        }
    }
    out
}

/// Another host process' memory, read from outside.
pub struct Process {
    pid: u32,
    mem: std::fs::File,
    scanner: Scanner,
}

/// Opening a file of a process in /proc failed because the process has ended (proc(5)), and not for want of descriptors, memory
/// or permission.
pub fn has_ended(e: &std::io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Reading a process' memory failed because nothing is mapped there (proc_pid_mem(5)), and not for want of memory.
pub fn is_unmapped(e: &std::io::Error) -> bool {
    e.raw_os_error() == Some(libc::EIO)
}

/// What to say of memory of a process that cannot be read. Behind the end of a file nothing can: one that was cut off on the host while
/// the image has it mapped is named.
pub fn unreadable(what: &str, pid: u32, at: u64, e: &std::io::Error) -> String {
    let mut why = format!("{what} at {at:#x}: {e}");
    if is_unmapped(e)
        && let Some((path, len)) = cut_off(pid, at)
    {
        why += &format!(
            ": {} is mapped there, and was cut off on the host to {len} bytes: give it back its length, or restart the program",
            path.display()
        );
    }
    why
}

/// The file that is mapped at this address of a process, and its length, if it ends before what is mapped there.
fn cut_off(pid: u32, at: u64) -> Option<(PathBuf, u64)> {
    let maps = std::fs::read(format!("/proc/{pid}/maps")).ok()?;
    maps.split(|b| *b == b'\n').find_map(|line| {
        // START-END, permissions, offset, device, inode, path.
        let mut words = line.splitn(6, |b| *b == b' ');
        let mut word = || std::str::from_utf8(words.next()?).ok();
        let (start, end) = word()?.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (hex(start)?, hex(end)?);
        if !(start..end).contains(&at) {
            return None;
        }
        let offset = hex(word().and_then(|_| word())?)?;
        let ino: u64 = word().and_then(|_| word())?.parse().ok()?;
        let path = Path::new(OsStr::from_bytes(words.next()?.trim_ascii_start()));
        let meta = std::fs::metadata(path).ok().filter(|m| m.ino() == ino)?;
        let cut = offset + (at - start) >= meta.len().next_multiple_of(PAGE);
        cut.then(|| (path.to_path_buf(), meta.len()))
    })
}

impl Process {
    /// By its host pid.
    pub fn open(pid: u32) -> Result<Process, String> {
        Process::find(pid)?.ok_or_else(|| format!("process {pid} has ended"))
    }

    /// The same; `None` if it has ended.
    pub fn find(pid: u32) -> Result<Option<Process>, String> {
        let file = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            match std::fs::File::open(&path) {
                Ok(file) => Ok(Some(file)),
                Err(e) if has_ended(&e) => Ok(None),
                Err(e) => Err(format!("{path}: {e}")),
            }
        };
        let (Some(mem), Some(pagemap)) = (file("mem")?, file("pagemap")?) else {
            return Ok(None);
        };
        Ok(Some(Process {
            pid,
            mem,
            scanner: Scanner::new(pagemap),
        }))
    }

    /// Runs of pages that are the process' own and not the file's under them.
    fn own_pages(&self, start: u64, end: u64) -> Result<Vec<(u64, u64)>, String> {
        let mut runs = Vec::new();
        self.scanner
            .own(start, end, |s, e| runs.push((s, e)))
            .map_err(|e| failed(&format!("looking at pages of process {}", self.pid), e))?;
        Ok(runs)
    }

    /// Its host pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Descriptor of its pagemap.
    pub fn pagemap(&self) -> i32 {
        self.scanner.fd()
    }

    fn unreadable(&self, at: u64, e: &std::io::Error) -> String {
        unreadable(
            &format!("reading memory of process {}", self.pid),
            self.pid,
            at,
            e,
        )
    }

    fn ended(&self, at: u64) -> String {
        format!("reading memory of process {} at {at:#x}: it has ended", self.pid)
    }

    /// Gives its memory in `[start, end)` to `found`, piece by piece.
    pub fn read(
        &self,
        start: u64,
        end: u64,
        buf: &mut [u8],
        found: &mut dyn FnMut(u64, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        use std::os::unix::fs::FileExt;
        let mut at = start;
        while at < end {
            let n = (end - at).min(buf.len() as u64) as usize;
            let mut had = 0;
            while had < n {
                let from = at + had as u64;
                match self.mem.read_at(&mut buf[had..n], from) {
                    Ok(0) => return Err(self.ended(from)),
                    Ok(more) => had += more,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(self.unreadable(from, &e)),
                }
            }
            found(at, &buf[..n])?;
            at += n as u64;
        }
        Ok(())
    }

    /// Gives whole pages of `[start, end)` to `found`, as many as the buffer holds at most at a time, while the process may run.
    /// A page that is not mapped any more is left out if `is_void` says so of its address: then a later look tells that it is
    /// gone. Else it is an error, as any other that the host may have.
    pub fn read_running(
        &self,
        (start, end): (u64, u64),
        buf: &mut [u8],
        is_void: &dyn Fn(u64) -> bool,
        found: &mut dyn FnMut(u64, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        use std::os::unix::fs::FileExt;
        let mut at = start;
        while at < end {
            let n = (end - at).min(buf.len() as u64) as usize;
            match self.mem.read_at(&mut buf[..n], at) {
                Ok(n) if n >= PAGE as usize => {
                    let n = n - n % PAGE as usize;
                    found(at, &buf[..n])?;
                    at += n as u64;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                // Its memory is gone with it.
                Ok(_) if is_void(at) => at += PAGE,
                Ok(_) => return Err(self.ended(at)),
                Err(e) if is_unmapped(&e) && is_void(at) => at += PAGE,
                Err(e) => return Err(self.unreadable(at, &e)),
            }
        }
        Ok(())
    }
}

/// Takes the whole image: contexts are settled, then pages and state go to `sink`.
pub fn whole(m: &mut Machine, here: SpaceId, sink: &mut dyn Sink) -> Result<HostState, String> {
    m.kernel.settle_vectors(&mut m.plat, here);
    let _side = alloc::enter(alloc::Side::Host);
    let mut files = std::mem::take(&mut m.files);
    let state = host_state(m, here, &mut files, &mut || {});
    m.files = files;
    let state = state?;
    pages(m, sink)?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn only_a_process_that_has_ended_is_not_found() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("a process");
        let pid = child.id();
        assert!(matches!(Process::find(pid), Ok(Some(_))));
        child.kill().and_then(|()| child.wait()).expect("ended");
        assert!(matches!(Process::find(pid), Ok(None)));
        // Without descriptors nothing can be said of one that lives. They are this thread's only from here on.
        let why = std::thread::spawn(|| {
            // SAFETY: plain calls; the copies are of the thread's own table, and go with it.
            unsafe {
                assert_eq!(libc::unshare(libc::CLONE_FILES), 0);
                while libc::dup(2) >= 0 {}
            }
            Process::find(std::process::id()).err()
        });
        let why = why.join().expect("a thread").expect("an error");
        assert!(why.contains("Too many open files"), "{why}");
    }

    #[test]
    fn a_page_is_left_out_only_if_a_later_look_tells_that_it_is_gone() {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: new memory, of which the test alone knows; its third page is given up.
        let at = unsafe {
            let at = sys::mmap(0, 4 * PAGE, prot, flags, -1, 0).expect("memory");
            (0..4).for_each(|n| ((at + n * PAGE) as *mut u8).write(n as u8 + 1));
            sys::munmap(at + 2 * PAGE, PAGE).expect("unmapped");
            at
        };
        let me = Process::open(std::process::id()).expect("our own memory");
        let mut buf = vec![0; 4 * PAGE as usize];
        let mut read = |gone: &[u64]| {
            let mut got = Vec::new();
            let is_void = |a: u64| gone.contains(&((a - at) / PAGE));
            let done = me.read_running((at, at + 4 * PAGE), &mut buf, &is_void, &mut |from, bytes| {
                let pages = bytes.chunks(PAGE as usize).enumerate();
                got.extend(pages.map(|(n, page)| ((from - at) / PAGE + n as u64, page[0])));
                Ok(())
            });
            done.map(|()| got)
        };
        assert_eq!(read(&[2]), Ok(vec![(0, 1), (1, 2), (3, 4)]));
        let why = read(&[0, 1, 3]).expect_err("it is not known to be gone");
        assert!(why.contains(&format!("{:#x}", at + 2 * PAGE)), "{why}");
    }

    #[test]
    fn a_mapped_file_that_was_cut_off_is_named() {
        let path = std::env::temp_dir().join(format!("ftvm cut {}", std::process::id()));
        std::fs::write(&path, vec![1; 3 * PAGE as usize]).expect("written");
        let file = std::fs::File::open(&path).expect("opened");
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        // SAFETY: new memory, of which the test alone knows.
        let at = unsafe {
            let at = sys::mmap(0, 3 * PAGE, prot, libc::MAP_PRIVATE, fd, 0).expect("memory");
            ((at + 2 * PAGE) as *mut u8).write(7);
            at
        };
        let me = Process::open(std::process::id()).expect("our own memory");
        let mut buf = vec![0; 8 * PAGE as usize];
        let range = (at, at + 3 * PAGE);
        let all = me.read(range.0, range.1, &mut buf, &mut |_, _| Ok(()));
        assert_eq!(all, Ok(()));
        let short = std::fs::File::options().write(true).open(&path);
        short.and_then(|f| f.set_len(PAGE + 1)).expect("cut off");
        let whys = [
            me.read(range.0, range.1, &mut buf, &mut |_, _| Ok(())),
            me.read_running(range, &mut buf, &|_| false, &mut |_, _| Ok(())),
        ];
        for why in whys {
            let why = why.expect_err("it cannot be read");
            let names = format!(
                "{} is mapped there, and was cut off on the host to 4097 bytes",
                path.display()
            );
            assert!(
                why.contains(&format!("{:#x}", at + 2 * PAGE)) && why.contains(&names),
                "{why}"
            );
        }
        std::fs::remove_file(path).expect("removed");
    }
}
