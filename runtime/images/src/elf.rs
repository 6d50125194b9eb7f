//! What a program needs: its interpreter and the libraries that ld.so would load, by ld.so's own rules.
//!
//! For each DT_NEEDED name: a path is taken as it is; otherwise DT_RPATH of the object and of those that loaded it (unless the
//! object has DT_RUNPATH), DT_RUNPATH of the object, /etc/ld.so.cache, the system's directories (ld.so(8)). LD_LIBRARY_PATH is
//! not asked: the image will not have it. What a program asks dlopen for cannot be known; [`Needs::maybe`] has what its bytes hint at.

use crate::pack::{Node, Nodes};
use crate::{Result, reason};
use goblin::elf::Elf;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Directories that ld.so of Debian and of others has built in.
const SYSTEM_DIRS: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];
/// Where ld.so finds libraries by their names.
pub const CACHE: &str = "/etc/ld.so.cache";
/// ELF, libc6, x86-64.
const CACHE_FLAGS: u32 = 0x0303;

/// What a program needs.
#[derive(Debug, Default)]
pub struct Needs {
    /// Interpreter and libraries by the path at which they were found.
    pub files: BTreeSet<PathBuf>,
    /// Names that were not found, and who wants them.
    pub missing: Vec<(String, PathBuf)>,
    /// What dlopen may still be asked for, a line each.
    pub maybe: Vec<String>,
    /// A library was found by the cache alone: the image needs it too.
    pub cache: bool,
}

struct Object {
    path: PathBuf,
    /// DT_RPATH of it and of those that loaded it.
    rpath: Vec<String>,
}

/// True if the file begins as an ELF file does.
pub fn is_elf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    std::fs::File::open(path)
        .and_then(|mut f| f.read_exact(&mut magic))
        .is_ok()
        && &magic == b"\x7fELF"
}

/// Finds what a program needs.
pub fn needs(program: &Path) -> Result<Needs> {
    let mut out = Needs::default();
    let cache = std::fs::read(CACHE).map(|b| parse_cache(&b)).unwrap_or_default();
    let mut queue = vec![Object {
        path: program.to_path_buf(),
        rpath: Vec::new(),
    }];
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    let (mut named, mut apis) = (BTreeSet::new(), BTreeSet::new());
    let mut first = true;
    while let Some(object) = queue.pop() {
        if !seen.insert(object.path.clone()) {
            continue;
        }
        let bytes =
            std::fs::read(&object.path).map_err(|e| format!("{}: {}", object.path.display(), reason(&e)))?;
        let elf = Elf::parse(&bytes).map_err(|e| format!("{}: {e}", object.path.display()))?;
        if elf.header.e_machine != goblin::elf::header::EM_X86_64 {
            return Err(format!("{}: not made for x86-64", object.path.display()));
        }
        if first && let Some(i) = elf.interpreter {
            out.files.insert(PathBuf::from(i));
        }
        let system = elf.interpreter.is_none()
            && !first
            && object
                .path
                .file_name()
                .is_some_and(|n| n.as_bytes().starts_with(b"ld-linux"));
        hints(&bytes, &elf, first, system, &mut named, &mut apis);
        first = false;
        let own: Vec<String> = elf
            .runpaths
            .iter()
            .flat_map(|p| p.split(':'))
            .map(|p| expand(p, &object.path))
            .collect();
        let mut rpath: Vec<String> = Vec::new();
        if own.is_empty() {
            rpath.extend(
                elf.rpaths
                    .iter()
                    .flat_map(|p| p.split(':'))
                    .map(|p| expand(p, &object.path)),
            );
        }
        rpath.extend(object.rpath.iter().cloned());
        for name in &elf.libraries {
            let search = if own.is_empty() { &rpath[..] } else { &[] };
            let found = match name.contains('/') {
                true => Some((PathBuf::from(name), false)).filter(|(p, _)| usable(p)),
                false => find(name, search, &own, &cache),
            };
            match found {
                None => out.missing.push((name.to_string(), object.path.clone())),
                Some((path, by_cache)) => {
                    out.cache |= by_cache;
                    out.files.insert(path.clone());
                    queue.push(Object {
                        path,
                        rpath: rpath.clone(),
                    });
                }
            }
        }
    }
    let there: BTreeSet<Vec<u8>> = out
        .files
        .iter()
        .filter_map(|f| f.file_name().map(|n| n.as_bytes().to_vec()))
        .collect();
    named.retain(|n: &String| !there.contains(n.as_bytes()));
    out.maybe = apis
        .into_iter()
        .map(str::to_string)
        .chain(named.into_iter().map(|n| format!("{n}: named in its bytes")))
        .collect();
    Ok(out)
}

/// Libraries that objects of an image ask for by names that nothing in it has, each with one of those that ask. Where ld.so
/// would look is not asked: one that is there at all counts.
pub fn lacking(trees: &[Nodes]) -> BTreeMap<String, String> {
    let last = |path: &[u8]| path.rsplit(|b| *b == b'/').next().unwrap_or_default().to_vec();
    let there: BTreeSet<Vec<u8>> = trees.iter().flat_map(|t| t.keys()).map(|p| last(p)).collect();
    let mut out = BTreeMap::new();
    for (name, node) in trees.iter().flatten() {
        let Node::Host(path) = node else { continue };
        if !path.is_file() || !usable(path) {
            continue;
        }
        let bytes = std::fs::read(path).unwrap_or_default();
        // What is no program at all is nobody's to complete.
        let Ok(elf) = Elf::parse(&bytes) else { continue };
        for library in elf
            .libraries
            .iter()
            .filter(|l| !there.contains(&last(l.as_bytes())))
        {
            out.entry(library.to_string())
                .or_insert_with(|| format!("/{}", String::from_utf8_lossy(name)));
        }
    }
    out
}

fn expand(path: &str, object: &Path) -> String {
    let origin = object
        .canonicalize()
        .ok()
        .and_then(|p| p.parent().map(|d| d.display().to_string()))
        .unwrap_or_default();
    let mut path = path.to_string();
    for (name, value) in [
        ("ORIGIN", origin.as_str()),
        ("LIB", "lib/x86_64-linux-gnu"),
        ("PLATFORM", "x86_64"),
    ] {
        path = path
            .replace(&format!("${{{name}}}"), value)
            .replace(&format!("${name}"), value);
    }
    path
}

/// A 64-bit shared object: ld.so goes on looking when it meets another.
fn usable(path: &Path) -> bool {
    use std::io::Read;
    let mut head = [0; 20];
    let read = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut head));
    read.is_ok()
        && head.starts_with(b"\x7fELF\x02")
        && u16::from_le_bytes([head[18], head[19]]) == goblin::elf::header::EM_X86_64
}

fn find(
    name: &str,
    rpath: &[String],
    runpath: &[String],
    cache: &BTreeMap<String, String>,
) -> Option<(PathBuf, bool)> {
    let dirs = |list: &[String]| list.iter().map(|d| Path::new(d).join(name)).find(|p| usable(p));
    if let Some(p) = dirs(rpath).or_else(|| dirs(runpath)) {
        return Some((p, false));
    }
    let builtin = |p: &Path| {
        p.parent()
            .is_some_and(|d| SYSTEM_DIRS.iter().any(|s| d == Path::new(s)))
    };
    if let Some(p) = cache.get(name).map(PathBuf::from).filter(|p| usable(p)) {
        let needed = !builtin(&p);
        return Some((p, needed));
    }
    SYSTEM_DIRS
        .iter()
        .map(|d| Path::new(d).join(name))
        .find(|p| usable(p))
        .map(|p| (p, false))
}

/// Names and paths of ld.so.cache in its present format ("glibc-ld.so.cache1.1", after an old one or not). Entries for
/// processors with more features are left out: the image may run on another.
fn parse_cache(bytes: &[u8]) -> BTreeMap<String, String> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    let mut out = BTreeMap::new();
    let Some(start) = bytes.windows(MAGIC.len()).position(|w| w == MAGIC) else {
        return out;
    };
    let b = &bytes[start..];
    let word = |at: usize| {
        b.get(at..at + 4)
            .and_then(|w| w.try_into().ok())
            .map(u32::from_le_bytes)
    };
    let text = |at: u32| {
        let rest = b.get(at as usize..)?;
        let len = rest.iter().position(|c| *c == 0)?;
        std::str::from_utf8(&rest[..len]).ok().map(str::to_string)
    };
    for i in 0..word(20).unwrap_or(0) as usize {
        let at = 48 + i * 24;
        let (Some(flags), Some(key), Some(value), Some(low), Some(high)) =
            (word(at), word(at + 4), word(at + 8), word(at + 16), word(at + 20))
        else {
            break;
        };
        if flags == CACHE_FLAGS
            && (low, high) == (0, 0)
            && let (Some(k), Some(v)) = (text(key), text(value))
        {
            out.entry(k).or_insert(v);
        }
    }
    out
}

/// What an object may ask dlopen for.
fn hints(
    bytes: &[u8],
    elf: &Elf<'_>,
    program: bool,
    system: bool,
    named: &mut BTreeSet<String>,
    apis: &mut BTreeSet<&'static str>,
) {
    let imports: BTreeSet<&str> = elf
        .dynsyms
        .iter()
        .filter(|s| s.is_import())
        .filter_map(|s| elf.dynstrtab.get_at(s.st_name))
        .collect();
    let libc = elf.soname.is_some_and(|n| n.starts_with("libc.so"));
    if system || libc {
        return;
    }
    for (functions, line) in [
        (
            &[
                "getpwnam",
                "getpwnam_r",
                "getpwuid",
                "getpwuid_r",
                "getgrnam",
                "getgrnam_r",
                "initgroups",
                "getgrouplist",
            ][..],
            "NSS (users, groups): /etc/nsswitch.conf, /etc/passwd, /etc/group, libnss_*.so.2",
        ),
        (
            &["getaddrinfo", "gethostbyname", "gethostbyname_r"],
            "NSS (host names): /etc/nsswitch.conf, /etc/hosts, /etc/resolv.conf, libnss_*.so.2",
        ),
        (&["iconv_open"], "iconv: gconv/ of the C library"),
        (&["setlocale", "newlocale"], "locales: /usr/lib/locale"),
    ] {
        if functions.iter().any(|f| imports.contains(f)) {
            apis.insert(line);
        }
    }
    if !imports.contains("dlopen") && !imports.contains("dlmopen") {
        return;
    }
    if program {
        apis.insert("dlopen: the program calls it itself");
    }
    let good = |c: u8| c.is_ascii_alphanumeric() || b"._+-/".contains(&c);
    for text in bytes.split(|c| !good(*c)) {
        let name = text.rsplit(|c| *c == b'/').next().unwrap_or(text);
        let Ok(s) = std::str::from_utf8(name) else {
            continue;
        };
        if s.len() > 6
            && s.len() < 64
            && s.starts_with("lib")
            && (s.ends_with(".so") || s.contains(".so."))
            && !elf.libraries.contains(&s)
            && elf.soname != Some(s)
        {
            named.insert(s.to_string());
        }
    }
}

/// Adds a host file at its own path, with the symlinks on the way to it. A directory brings what is below it.
pub fn add(path: &Path, out: &mut Nodes) -> Result<()> {
    let mut todo: Vec<PathBuf> = vec![path.to_path_buf()];
    let mut hops = 0;
    while let Some(path) = todo.pop() {
        hops += 1;
        if hops > 40 {
            return Err(format!("{}: too many symlinks", path.display()));
        }
        if !path.is_absolute() {
            return Err(format!("{}: not an absolute path", path.display()));
        }
        let mut at = PathBuf::from("/");
        let mut rest = path.components();
        while let Some(c) = rest.next() {
            match c {
                Component::Normal(n) => at.push(n),
                Component::ParentDir => drop(at.pop()),
                _ => continue,
            }
            if at == Path::new("/") {
                continue;
            }
            let meta = at
                .symlink_metadata()
                .map_err(|e| format!("{}: {}", at.display(), reason(&e)))?;
            let name = at.as_os_str().as_bytes()[1..].to_vec();
            if meta.is_symlink() {
                let to = std::fs::read_link(&at).map_err(|e| format!("{}: {}", at.display(), reason(&e)))?;
                out.insert(name, Node::Link(to.as_os_str().as_bytes().to_vec()));
                todo.push(
                    at.parent()
                        .unwrap_or(Path::new("/"))
                        .join(to)
                        .join(rest.as_path()),
                );
                break;
            }
            if meta.is_dir() {
                // The host's own mode, but not its time: what else is in it is not in the image.
                use std::os::unix::fs::MetadataExt;
                out.entry(name).or_insert(Node::Dir(meta.mode() & 0o7777));
                if at == path || rest.as_path().as_os_str().is_empty() {
                    crate::pack::walk(&at, &at.as_os_str().as_bytes()[1..], out)?;
                }
            } else {
                out.insert(name, Node::Host(at.clone()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_brings_its_interpreter_and_the_c_library() {
        let n = needs(Path::new("/bin/sh")).expect("read");
        let names: Vec<String> = n.files.iter().map(|f| f.display().to_string()).collect();
        assert!(
            names.iter().any(|f| f.contains("ld-linux-x86-64.so.2")),
            "{names:?}"
        );
        assert!(names.iter().any(|f| f.ends_with("/libc.so.6")), "{names:?}");
        assert_eq!(n.missing, []);
        let mut nodes = Nodes::new();
        for f in &n.files {
            add(f, &mut nodes).expect("there");
        }
        // Whatever is a link there is one in the image too, and leads to something in it.
        for (name, node) in &nodes {
            if let Node::Link(to) = node {
                let dir = Path::new("/").join(std::ffi::OsStr::from_bytes(name));
                let to = dir
                    .parent()
                    .expect("below the root")
                    .join(std::ffi::OsStr::from_bytes(to));
                let to = to.canonicalize().expect("there");
                assert!(
                    nodes.contains_key(&to.as_os_str().as_bytes()[1..]),
                    "{to:?} in {nodes:?}"
                );
            }
        }
    }

    #[test]
    fn a_damaged_cache_is_no_cache() {
        assert!(parse_cache(b"").is_empty());
        let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
        bytes.extend([0xff; 60]);
        assert!(parse_cache(&bytes).is_empty());
    }
}
