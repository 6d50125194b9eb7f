//! Snapshots as files: `ftl_core::snap`'s format, written whole or not at all.

use super::gather::Gather;
use super::lazy::{Lazy, Rest};
use super::restore::{Loaded, Source};
use super::state::HostState;
use super::volumes::{self, hold::Copied};
use super::{Object, Sink, capture, carry};
use crate::alloc::{self, Side};
use crate::control::{HOW_CARELESS, HOW_IN_PLACE, HOW_VOLUMES};
use crate::platform::moved::below;
use crate::run::Machine;
use crate::store::file::HostFile;
use crate::store::open::Opener;
use crate::sys;
use ftl_core::layout::PAGE;
use ftl_core::snap::{
    ClockState, Created, HandleKind, HandleState, Header, Manifest, MappedFile, Root, Run, RuntimeImage,
    SnapError, Snapshot, State, VolumePolicy, VolumeState, Writer,
    tree::{self, Tree},
};
use ftl_core::wait::SpaceId;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of the manifest's section with the host's side.
pub const STATE: &str = "host";

/// Pages go to a file in the order in which they are given; the last counts.
pub struct ToFile<'a> {
    writer: Writer,
    out: Gather<'a>,
    runtime: Option<RuntimeImage>,
    volumes: Vec<VolumeState>,
    tree: Option<Tree>,
}

impl ToFile<'_> {
    /// Begins the file of a whole snapshot. `held`: contents of volumes will be in it.
    pub fn begin(image: u64, held: bool, file: &mut File) -> Result<ToFile<'_>, String> {
        let header = Header {
            with_volumes: held,
            ..header(image)
        };
        let mut all = Self::with_header(header, file)?;
        all.tree = held.then(Tree::default);
        Ok(all)
    }

    fn with_header(header: Header, file: &mut File) -> Result<ToFile<'_>, String> {
        let mut out = Gather::new(file);
        let writer = Writer::begin(header, None, &mut |b| out.write(b)).map_err(|e| e.to_string())?;
        Ok(ToFile {
            writer,
            out,
            runtime: None,
            volumes: Vec::new(),
            tree: None,
        })
    }

    /// Begins a file outside of the image's processes. `parent`: it has only what has changed since that one. `runtime`: a program
    /// that is in it. `held`: contents of volumes will be in it.
    pub fn begin_outside<'a>(
        image: u64,
        parent: Option<Root>,
        runtime: Option<&[u8]>,
        held: bool,
        file: &'a mut File,
    ) -> Result<ToFile<'a>, String> {
        let header = Header {
            parent,
            with_runtime: runtime.is_some(),
            with_volumes: held,
            ..header(image)
        };
        let mut all = Self::with_header(header, file)?;
        all.writer.hash_by(super::wide::pages);
        all.runtime = runtime.map(carry::name);
        all.tree = held.then(Tree::default);
        if let Some(program) = runtime {
            let mut pages = program.to_vec();
            pages.resize(program.len().next_multiple_of(PAGE as usize), 0);
            all.pages(Object::Runtime, 0, &pages)?;
        }
        Ok(all)
    }

    /// The file.
    pub fn file(&self) -> &File {
        self.out.file()
    }

    /// What becomes of volumes, and what is in those that are held.
    pub fn set_volumes(&mut self, volumes: Vec<VolumeState>, tree: Option<Tree>) {
        self.volumes = volumes;
        self.tree = tree;
    }

    /// Ends it, with the host's side and the offsets of REALTIME and BOOTTIME. Returns what it is named by.
    pub fn finish(self, state: &HostState, offsets: (u64, u64)) -> Result<Root, String> {
        let ToFile {
            writer,
            mut out,
            runtime,
            volumes,
            tree,
        } = self;
        let mut manifest = Manifest {
            runtime,
            volumes,
            ..manifest(state, offsets)
        };
        let held: Vec<&VolumeState> = manifest
            .volumes
            .iter()
            .filter(|v| v.policy == VolumePolicy::Snapshot)
            .collect();
        let needed = |f: &MappedFile| !held.iter().any(|v| below(&f.path, &v.host).is_some());
        let files = std::mem::take(&mut manifest.files).into_iter();
        manifest.files = files.filter(needed).collect();
        if let Some(tree) = tree {
            manifest.extra.push((tree::SECTION.to_string(), tree.encode()));
        }
        let root = writer.finish(manifest, &mut |b| out.write(b));
        let done = root.and_then(|root| out.end().map(|()| root));
        done.map_err(|e| e.to_string())
    }

    /// Bytes pass the host's page cache by: for a snapshot that is not restored soon.
    pub fn past_the_cache(&mut self) {
        self.out.past_the_cache();
    }
}

impl Sink for ToFile<'_> {
    fn pages(&mut self, object: Object, first: u64, bytes: &[u8]) -> Result<(), String> {
        let out = &mut self.out;
        self.writer
            .pages(object, first, bytes, &mut |b| out.write(b))
            .map_err(|e| e.to_string())
    }

    fn runs(&mut self, object: Object, runs: &[(u64, u64)], bytes: &[u8]) -> Result<(), String> {
        let out = &mut self.out;
        self.writer
            .runs(object, runs, bytes, &mut |b| out.write(b))
            .map_err(|e| e.to_string())
    }

    fn gone(&mut self, object: Object, first: u64, count: u64) -> Result<(), String> {
        self.writer.drop_pages(object, first, count);
        Ok(())
    }
}

/// Pages that are kept in memory, to be given to another sink later.
#[derive(Default)]
pub struct Held(Vec<Kept>);

enum Kept {
    /// Runs of pages, and their bytes.
    Pages(Object, Vec<(u64, u64)>, Vec<u8>),
    /// First page, and how many.
    Gone(Object, u64, u64),
}

impl Held {
    /// Gives them on, in the same order.
    pub fn give(self, sink: &mut dyn Sink) -> Result<(), String> {
        for kept in self.0 {
            match kept {
                Kept::Pages(object, runs, bytes) => sink.runs(object, &runs, &bytes)?,
                Kept::Gone(object, first, count) => sink.gone(object, first, count)?,
            }
        }
        Ok(())
    }
}

impl Sink for Held {
    fn pages(&mut self, object: Object, first: u64, bytes: &[u8]) -> Result<(), String> {
        self.runs(object, &[(first, bytes.len() as u64 / PAGE)], bytes)
    }

    fn runs(&mut self, object: Object, runs: &[(u64, u64)], bytes: &[u8]) -> Result<(), String> {
        self.0.push(Kept::Pages(object, runs.to_vec(), bytes.to_vec()));
        Ok(())
    }

    fn gone(&mut self, object: Object, first: u64, count: u64) -> Result<(), String> {
        self.0.push(Kept::Gone(object, first, count));
        Ok(())
    }
}

/// The file's header for an image of this build.
fn header(image: u64) -> Header {
    Header {
        build: crate::door::record::build_id(),
        image,
        version: env!("CARGO_PKG_VERSION").to_string(),
        parent: None,
        compressed: false,
        lock: None,
        external: false,
        with_runtime: false,
        with_volumes: false,
    }
}

/// Writes a snapshot whose state was taken already, and pages: the file appears when it is whole. It need not survive
/// a crash of the host. The caller is on the host side.
pub fn write_state(m: &mut Machine, state: &super::state::HostState, path: &Path) -> Result<(), String> {
    let bad = |e: std::io::Error| format!("{}: {e}", path.display());
    let part = path.with_extension("part");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .map_err(bad)?;
    let clock = m.kernel.core.clock;
    let done = ToFile::begin(m.image, false, &mut file)
        .and_then(|mut pages| {
            capture::pages(m, &mut pages)?;
            pages.finish(state, (clock.real_offset.get(), clock.boot_offset.get()))
        })
        .map(drop)
        .and_then(|()| std::fs::rename(&part, path).map_err(bad));
    if done.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    done
}

/// Writes a snapshot of the image that the caller holds the token of. The file appears when it is whole.
pub fn write(m: &mut Machine, here: SpaceId, path: &Path, how: u32) -> Result<(), String> {
    let bad = |e: std::io::Error| format!("snapshot {}: {e}", path.display());
    if !m.plat.replaying() {
        // What has arrived at the host belongs to the image: datagrams, errors, keys.
        m.plat.stamp = m.kernel.next_stamp();
        m.plat.gather(None);
    }
    let _side = alloc::enter(Side::Host);
    super::travel::check(m, how)?;
    if how & HOW_IN_PLACE != 0 {
        let mut file = std::fs::OpenOptions::new().write(true).open(path).map_err(bad)?;
        return write_to(m, here, false, &mut file);
    }
    let held = how & HOW_VOLUMES != 0;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".part-{}", m.image));
    let part = path.with_file_name(name);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .map_err(bad)?;
    let done = write_to(m, here, held, &mut file)
        .and_then(|()| match how & HOW_CARELESS {
            0 => file.sync_all().map_err(bad),
            _ => Ok(()),
        })
        .and_then(|()| std::fs::rename(&part, path).map_err(bad));
    if done.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    done
}

/// The same for an image that stands already ([`super::rounds::stand`]). The caller is on the host side.
pub fn write_standing(m: &mut Machine, here: SpaceId, path: &[u8]) -> Result<(), String> {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let mut file = File::create(path).map_err(|e| format!("snapshot {}: {e}", path.display()))?;
    write_to(m, here, false, &mut file)
}

/// `held`: with what is in its volumes. Those who ask for that have it done outside of the image, but for tests that want it at one entry.
fn write_to(m: &mut Machine, here: SpaceId, held: bool, file: &mut File) -> Result<(), String> {
    let mut pages = ToFile::begin(m.image, held, file)?;
    let mut state = capture::whole(m, here, &mut pages)?;
    if held {
        let all = volumes::of_state(&state)?;
        let all: Vec<_> = all.iter().map(|v| (v, volumes::Policy::Snapshot)).collect();
        let tree = Copied::default().hold(&state, &all, &mut pages)?;
        state.held = true;
        pages.set_volumes(volumes::states(&all), Some(tree));
    }
    let clock = m.kernel.core.clock;
    pages
        .finish(&state, (clock.real_offset.get(), clock.boot_offset.get()))
        .map(drop)
}

fn manifest(state: &HostState, offsets: (u64, u64)) -> Manifest {
    let real = state.clock.1;
    Manifest {
        created: Created {
            s: (real / 1_000_000_000) as i64,
            ns: (real % 1_000_000_000) as u32,
        },
        clock: ClockState {
            mono: state.clock.0,
            real_offset: offsets.0,
            boot_offset: offsets.1,
        },
        entries: state.entries,
        log_position: state.log.as_ref().map_or(0, |l| l.position),
        start: state.start.clone(),
        handles: state
            .files
            .iter()
            .map(|f| HandleState {
                handle: f.handle,
                kind: HandleKind::Opaque(f.path.clone()),
            })
            .collect(),
        files: state
            .files
            .iter()
            .filter_map(|f| {
                Some(MappedFile {
                    path: f.path.clone(),
                    size: f.size,
                    blake3: f.hash?,
                })
            })
            .collect(),
        spaces: state.spaces.iter().map(|(id, _)| *id).collect(),
        extra: vec![(STATE.to_string(), state.encode())],
        ..Manifest::default()
    }
}

/// A snapshot by what a user names, with its parents.
pub struct FromFiles {
    /// Finds and reads them.
    pub opener: Opener,
    /// A file, or the first digits of an identity in the page store.
    pub name: PathBuf,
    /// Private pages may be read later.
    pub lazy: Option<Lazy>,
}

impl FromFiles {
    /// One that needs no passphrase.
    pub fn plain(name: PathBuf) -> FromFiles {
        FromFiles {
            opener: Opener::default(),
            name,
            lazy: None,
        }
    }
}

struct Refused(String);

impl From<SnapError> for Refused {
    fn from(e: SnapError) -> Refused {
        Refused(e.to_string())
    }
}

impl Source for FromFiles {
    fn load(
        &mut self,
        found: &mut dyn FnMut(Object, u64, &[u8]) -> Result<(), String>,
    ) -> Result<Loaded, String> {
        let path = self.opener.resolve(&self.name)?;
        let named = |why: &str| format!("snapshot {}: {why}", path.display());
        let head = Snapshot::header_of(&HostFile::open(&path)?).map_err(|e| named(&e.to_string()))?;
        if head.build != crate::door::record::build_id() {
            return Err(named(&carry::other_build(&head)));
        }
        // What is read later is read by a process that shares no memory with the image.
        let side = self.lazy.map(|_| alloc::enter(Side::System));
        let home = if side.is_some() { Side::Host } else { alloc::side() };
        let chain = self.opener.chain(&self.name)?.chain;
        let private =
            |(_, run): &(usize, Run)| matches!((run.object, run.state), (Object::Space(_), State::Data(_)));
        let pages: u64 = chain.runs().filter(private).map(|(_, run)| run.count).sum();
        let later = self.lazy.filter(|lazy| pages >= lazy.from);
        // Volumes are on the disk by now.
        let wanted = |object| match object {
            Object::Volumes => false,
            Object::Space(_) => later.is_none(),
            _ => true,
        };
        chain
            .for_each_of(wanted, |object, first, bytes| {
                alloc::on(home, || found(object, first, bytes)).map_err(Refused)
            })
            .map_err(|e| named(&e.0))?;
        let rest = later.map(|lazy| (path.display().to_string(), lazy.by_need));
        drop(side);
        let zero = chain
            .runs()
            .filter_map(|(_, run)| match (run.object, run.state) {
                (Object::Space(n), State::Zero) => Some((n, run.first, run.count)),
                _ => None,
            })
            .collect();
        let manifest = chain.manifest();
        let state = manifest
            .extra(STATE)
            .ok_or_else(|| named("no section for the host's side"))?;
        let (image, state, root) = (manifest.image, state.to_vec(), *chain.last().root());
        Ok(Loaded {
            image,
            state,
            zero,
            spaces: Vec::new(),
            root: Some(root),
            rest: rest.map(|(name, by_need)| Rest { chain, name, by_need }),
        })
    }
}

/// Host time, ns since 1970.
pub fn real_now() -> i128 {
    i128::from(sys::clock_ns(libc::CLOCK_REALTIME))
}
