//! A snapshot made ready on this host, to start from it again and again: checked and decompressed once, its private pages in
//! one file from which each start maps them.
//!
//! A header page (magic, version, build, place, length and checksum of the rest), pages, and behind them what and where they are.
//! Like an unpacked root it is made from contents that were checked, is never changed, and is not checked page by page again.

use super::Object;
use super::file::{FromFiles, STATE};
use super::pages::{Pages, Run};
use super::restore::{Loaded, Source, in_range};
use super::state::HostState;
use crate::platform::maps::{Maps, Under};
use crate::store::file::Unpublished;
use ftl_core::layout::{GUEST_TOP, PAGE};
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const MAGIC: &[u8; 8] = b"FTREADY\n";
const VERSION: u32 = 1;
/// Magic, version, build, checksum of the rest, its offset and length.
const HEADER: usize = 8 + 4 + 16 + 4 + 8 + 8;
/// Most bytes of what is not pages.
const MAX_ABOUT: u64 = 256 << 20;
/// Runs of a space that are no further apart, in pages, become one: a mapping costs more than some zero pages.
const GAP: u64 = 16;

/// Arena, page store, and spaces from 2 on.
fn number(object: Object) -> Option<u64> {
    match object {
        Object::Arena => Some(0),
        Object::Store => Some(1),
        Object::Space(n) => Some(2 + u64::from(n)),
        Object::Runtime | Object::Volumes => None,
    }
}

/// First page, pages, and first page in the file.
type Row = (u64, (u64, u64, u64));

/// What is in such a file beside pages.
pub struct Ready {
    file: File,
    image: u64,
    state: Vec<u8>,
    zero: Vec<(u32, u64, u64)>,
    rows: Vec<Row>,
}

/// Writes pages one behind the other.
struct Packer<'a> {
    out: Unpublished,
    next: u64,
    rows: Vec<Row>,
    maps: &'a BTreeMap<u32, &'a Maps>,
}

impl Packer<'_> {
    fn add(&mut self, object: Object, first: u64, bytes: &[u8]) -> Result<(), String> {
        let Some(n) = number(object) else {
            return Ok(());
        };
        let count = bytes.len() as u64 / PAGE;
        let plain = |from: u64, to: u64| {
            let Object::Space(n) = object else { return true };
            let anon = |p: &(u64, u64, Option<Under>)| matches!(p.2, None | Some(Under::Saved(_)));
            self.maps
                .get(&n)
                .is_none_or(|m| m.parts(from * PAGE, to * PAGE).iter().all(anon))
        };
        if let Some((object, (start, len, _))) = self.rows.last_mut()
            && *object == n
            && let Some(gap) = first.checked_sub(*start + *len)
            && (gap == 0 || gap <= GAP && plain(*start + *len, first))
        {
            for _ in 0..gap {
                self.out.write(&[0; PAGE as usize])?;
            }
            *len += gap + count;
            self.next += gap + count;
        } else {
            self.rows.push((n, (first, count, self.next)));
            self.next += count;
        }
        self.out.write(bytes)
    }
}

/// Makes a snapshot ready in a file, which appears when it is whole.
pub fn prepare(source: &mut FromFiles, to: &Path) -> Result<(), String> {
    let manifest = source.opener.one(&source.name)?;
    let state = manifest.manifest().extra(STATE).and_then(HostState::decode);
    let state = state.ok_or_else(|| format!("snapshot {}: its state is damaged", source.name.display()))?;
    drop(manifest);
    let mut out = Unpublished::create(to)?;
    out.write(&[0; PAGE as usize])?;
    let maps = state.spaces.iter().map(|(n, maps)| (*n, maps)).collect();
    let mut packer = Packer {
        out,
        next: 1,
        rows: Vec::new(),
        maps: &maps,
    };
    let loaded = source.load(&mut |object, first, bytes| packer.add(object, first, bytes))?;
    let Packer {
        mut out, next, rows, ..
    } = packer;
    let mut about = Vec::new();
    loaded.image.put(&mut about);
    loaded.state.put(&mut about);
    put_list(&loaded.zero, &mut about);
    put_list(&rows, &mut about);
    out.write(&about)?;
    let mut head = Vec::with_capacity(HEADER);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&crate::door::record::build_id());
    head.extend_from_slice(&crc32fast::hash(&about).to_le_bytes());
    head.extend_from_slice(&(next * PAGE).to_le_bytes());
    head.extend_from_slice(&(about.len() as u64).to_le_bytes());
    out.write_head(&head)?;
    out.publish()
}

impl Ready {
    /// Opens one that this build has made; an error if it is none, or damaged where it can be seen.
    pub fn open(path: &Path) -> Result<Ready, String> {
        let bad = |why: &str| format!("{}: {why}", path.display());
        let io = |e: std::io::Error| bad(&crate::cli::reason(&e));
        let file = File::open(path).map_err(io)?;
        let mut head = [0; HEADER];
        file.read_exact_at(&mut head, 0).map_err(io)?;
        let long = |at: usize| {
            head.get(at..at + 8)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u64::from_le_bytes)
        };
        let build = crate::door::record::build_id();
        if head[..8] != *MAGIC || head[8..12] != VERSION.to_le_bytes() || head[12..28] != build {
            return Err(bad("made by another build of ftvm"));
        }
        let (at, len) = (long(32), long(40));
        if len > MAX_ABOUT {
            return Err(bad("damaged"));
        }
        let mut about = vec![0; len as usize];
        file.read_exact_at(&mut about, at).map_err(io)?;
        if head[28..32] != crc32fast::hash(&about).to_le_bytes() {
            return Err(bad("damaged"));
        }
        let src = &mut about.as_slice();
        let mut parse = || {
            let (image, state) = (Wire::take(src)?, Wire::take(src)?);
            let (zero, rows) = (take_list(src)?, take_list(src)?);
            src.is_empty().then_some((image, state, zero, rows))
        };
        let (image, state, zero, rows) = parse().ok_or_else(|| bad("damaged"))?;
        Ok(Ready {
            file,
            image,
            state,
            zero,
            rows,
        })
    }

    /// The host's side.
    pub fn state(&self) -> Option<HostState> {
        HostState::decode(&self.state)
    }
}

/// A snapshot that is ready, as a source of pages.
pub struct FromReady(pub PathBuf);

impl Source for FromReady {
    fn load(
        &mut self,
        found: &mut dyn FnMut(Object, u64, &[u8]) -> Result<(), String>,
    ) -> Result<Loaded, String> {
        let Ready {
            file,
            image,
            state,
            zero,
            rows,
        } = Ready::open(&self.0)?;
        let bad = |e: std::io::Error| format!("{}: {}", self.0.display(), crate::cli::reason(&e));
        let mut spaces: BTreeMap<u32, Vec<Run>> = BTreeMap::new();
        let mut buf = Vec::new();
        for (n, (first, count, at)) in rows {
            let damaged = || format!("{}: damaged", self.0.display());
            let len = count.checked_mul(PAGE).ok_or_else(damaged)?;
            let object = match n {
                0 => Object::Arena,
                1 => Object::Store,
                n => {
                    let start = in_range(first, len, GUEST_TOP).ok_or_else(damaged)?;
                    let space = u32::try_from(n - 2).map_err(|_| damaged())?;
                    let off = at.checked_mul(PAGE).ok_or_else(damaged)?;
                    spaces.entry(space).or_default().push((start, start + len, off));
                    continue;
                }
            };
            const CHUNK: u64 = 1 << 20;
            let mut done = 0;
            while done < len {
                buf.resize((len - done).min(CHUNK) as usize, 0);
                file.read_exact_at(&mut buf, at * PAGE + done).map_err(bad)?;
                found(object, first + done / PAGE, &buf)?;
                done += buf.len() as u64;
            }
        }
        let fd = Rc::new(file.into());
        let mut packed = Vec::new();
        for (n, mut runs) in spaces {
            runs.sort_unstable();
            let pages = Pages::packed(Rc::clone(&fd), runs);
            packed.push((n, pages.ok_or_else(|| format!("{}: damaged", self.0.display()))?));
        }
        Ok(Loaded {
            image,
            state,
            zero,
            spaces: packed,
            rest: None,
            root: None,
        })
    }
}
