//! The ftvm that wrote a snapshot, inside it (`checkpoint --with-runtime`): another build hands a restore over to it.
//!
//! What is carried is the program without its sections for debuggers: nothing of them is mapped, and the build's identity
//! does not depend on them. It may do what the image may do, which shares its address space: to start it from a file of unknown origin is
//! no more trust than to restore that file.

use super::Object;
use crate::run::EXIT_FAILED;
use crate::snap::restore::EXIT_MISSING;
use crate::store::file::HostFile;
use crate::store::open::Opener;
use crate::sys;
use ftl_core::layout::PAGE;
use ftl_core::snap::{Header, RuntimeImage, Snapshot};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Set for a runtime that came from a snapshot: it is the one that the snapshot needs, or the snapshot lies.
const CARRIED: &str = "FTVM_FROM_SNAPSHOT";
/// Longest program that is taken from a snapshot.
const MOST: u64 = 1 << 30;

/// What of this program a snapshot carries.
pub fn ours() -> Result<Vec<u8>, String> {
    let whole = std::fs::read("/proc/self/exe").map_err(|e| format!("/proc/self/exe: {e}"))?;
    needed(whole).ok_or_else(|| "/proc/self/exe: not a program that can be carried".to_string())
}

/// The file up to the end of its last segment, with no word of the sections behind that.
fn needed(mut file: Vec<u8>) -> Option<Vec<u8>> {
    let word = |at: usize| Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(*file.get(at..)?.first_chunk()?)));
    let (table, size, count) = (usize::try_from(word(0x20)?).ok()?, half(0x36)?, half(0x38)?);
    let mut end = table.checked_add(size.checked_mul(count)?)?;
    for n in 0..count {
        let at = table + n * size;
        let (offset, len) = (word(at + 8)?, word(at + 32)?);
        end = end.max(usize::try_from(offset.checked_add(len)?).ok()?);
    }
    if end > file.len() {
        return None;
    }
    file.truncate(end);
    // e_shoff, e_shnum and e_shstrndx.
    file.get_mut(0x28..0x30)?.fill(0);
    file.get_mut(0x3c..0x40)?.fill(0);
    Some(file)
}

/// How the manifest names it.
pub fn name(program: &[u8]) -> RuntimeImage {
    RuntimeImage {
        len: program.len() as u64,
        blake3: *blake3::hash(program).as_bytes(),
    }
}

/// What is said of a snapshot that another build has written and that does not carry it.
pub fn other_build(head: &Header) -> String {
    format!(
        "written by another build of ftvm ({}); restore it with that one",
        head.version
    )
}

/// Before a snapshot is restored: if another build wrote it and is in it, that one carries the command out, and this does
/// not return. An error has the exit code.
pub fn hand_over(opener: &mut Opener, snapshot: &Path) -> Result<(), (i32, String)> {
    let path = opener.resolve(snapshot).map_err(|why| (EXIT_FAILED, why))?;
    let named = |why: String| (EXIT_MISSING, format!("snapshot {}: {why}", path.display()));
    // What is no snapshot at all is refused by whoever reads all of it.
    let Ok(head) = HostFile::open(&path).and_then(|f| Snapshot::header_of(&f).map_err(|e| e.to_string()))
    else {
        return Ok(());
    };
    if head.build == crate::door::record::build_id() {
        return Ok(());
    }
    if !head.with_runtime || std::env::var_os(CARRIED).is_some() {
        return Err(named(other_build(&head)));
    }
    let program = take(&opener.one(&path).map_err(|why| (EXIT_MISSING, why))?).map_err(named)?;
    Err(named(format!(
        "the ftvm {} in it cannot be started: {}",
        head.version,
        start(&program)
    )))
}

/// Reads and checks the program.
fn take(snapshot: &Snapshot) -> Result<Vec<u8>, String> {
    let runtime = snapshot.manifest().runtime.as_ref();
    let runtime = runtime
        .filter(|r| r.len <= MOST)
        .ok_or("the ftvm in it is damaged")?;
    let mut program = vec![0; (runtime.len.div_ceil(PAGE) * PAGE) as usize];
    for (n, page) in program.chunks_mut(PAGE as usize).enumerate() {
        snapshot
            .read_page(Object::Runtime, n as u64, page)
            .map_err(|e| e.to_string())?;
    }
    program.truncate(runtime.len as usize);
    match blake3::hash(&program) == runtime.blake3 {
        true => Ok(program),
        false => Err("the ftvm in it is damaged".to_string()),
    }
}

/// This command by that program. Returns only why not.
fn start(program: &[u8]) -> String {
    let fd = match sys::memfd(c"ftvm", program.len() as u64) {
        Ok(fd) => fd,
        Err(e) => return e.to_string(),
    };
    // SAFETY: a new descriptor.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    if let Err(e) = file.write_all_at(program, 0) {
        return e.to_string();
    }
    let mut args = std::env::args_os();
    let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.args(args).env(CARRIED, "1").exec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_runs() {
        let whole = std::fs::read("/proc/self/exe").expect("this program");
        let program = needed(whole.clone()).expect("a program");
        assert!(program.len() < whole.len());
        let path = std::env::temp_dir().join(format!("ftvm-carried-{}", std::process::id()));
        // By another process: one that another test makes meanwhile has a copy of what this one opens for writing, and then it cannot be
        // executed (ETXTBSY).
        let bytes = path.with_extension("bytes");
        std::fs::write(&bytes, &program).expect("written");
        let put = Command::new("install")
            .args(["-m", "700"])
            .args([&bytes, &path])
            .status();
        let _ = std::fs::remove_file(&bytes);
        assert!(put.expect("install(1)").success());
        let out = Command::new(&path).arg("--list").output();
        let _ = std::fs::remove_file(&path);
        assert!(out.expect("it starts").status.success());
        for cut in [0, 10, 0x3f, program.len() - 1] {
            assert_eq!(needed(program[..cut].to_vec()), None);
        }
    }
}
