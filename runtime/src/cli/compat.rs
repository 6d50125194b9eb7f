//! `ftvm compat`: what a program asks of the kernel, and which of it is supported, before it runs.

use super::options::reason;
use super::say;
use super::state::SCHEMA;
use ftl_abi::table::{self, Level, Row};
use ftl_loader::elf::{self, SegFlags};
use ftl_loader::patch;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Exit code when a call was found that is not supported.
const EXIT_UNSUPPORTED: i32 = 7;
/// Longest program that is read.
const MAX_FILE: u64 = 1 << 30;

/// Options of `compat`.
#[derive(clap::Args)]
pub struct CompatArgs {
    /// The program, by path or name
    #[arg(required_unless_present = "strace_log", conflicts_with = "strace_log")]
    program: Option<PathBuf>,
    /// Read the calls from the output of `strace -f -o FILE PROGRAM` instead: what it really made
    #[arg(long, value_name = "FILE")]
    strace_log: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was found of one call.
#[derive(Default)]
struct Use {
    count: u64,
    seen_in: BTreeSet<String>,
}

#[derive(Default)]
struct Report {
    calls: BTreeMap<&'static str, Use>,
    /// Names that no table row has.
    strangers: BTreeSet<String>,
    /// Syscall instructions whose number is not known beforehand.
    unknown_sites: usize,
    libraries: BTreeMap<String, Option<String>>,
    notes: Vec<String>,
}

impl Report {
    fn add(&mut self, row: &'static Row, count: u64, place: &str) {
        let u = self.calls.entry(row.name).or_default();
        u.count += count;
        u.seen_in.insert(place.to_string());
    }
}

/// `compat`
pub fn compat(args: &CompatArgs) -> i32 {
    let report = match (&args.program, &args.strace_log) {
        (Some(p), _) => of_program(p),
        (None, Some(log)) => of_log(log).map_err(|why| (1, why)),
        (None, None) => return 2,
    };
    let report = match report {
        Ok(r) => r,
        Err((code, why)) => {
            if args.json {
                println!("{}", json!({"version": SCHEMA, "error": why, "code": code}));
            }
            say(&why);
            return code;
        }
    };
    if args.json {
        println!("{}", as_json(&report));
    } else {
        print(&report);
    }
    // What is refused on purpose has a note: libraries are made to do without.
    let missing = of_level(&report, Level::No).any(|(row, _)| row.note.is_empty());
    let unsupported = missing || !report.strangers.is_empty();
    if unsupported { EXIT_UNSUPPORTED } else { 0 }
}

fn by_name(name: &str) -> Option<&'static Row> {
    let name = match name {
        "stat64" | "lstat64" | "fstat64" => &name[..name.len() - 2],
        n => n,
    };
    table::ROWS.iter().find(|r| r.name == name)
}

fn of_level(r: &Report, level: Level) -> impl Iterator<Item = (&'static Row, &Use)> {
    let rows = r.calls.iter().filter_map(|(n, u)| by_name(n).map(|row| (row, u)));
    rows.filter(move |(row, _)| row.level == level)
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Full => "full",
        Level::Part => "part",
        Level::No => "no",
    }
}

fn as_json(r: &Report) -> Value {
    let calls: Vec<Value> = r
        .calls
        .iter()
        .filter_map(|(n, u)| by_name(n).map(|row| (row, u)))
        .map(|(row, u)| {
            json!({"name": row.name, "number": row.nr, "support": word(row.level), "note": row.note,
                   "count": u.count, "in": u.seen_in})
        })
        .collect();
    json!({"version": SCHEMA, "calls": calls, "unknown_calls": r.strangers, "unknown_sites": r.unknown_sites,
           "libraries": r.libraries, "notes": r.notes})
}

/// ENOSYS with a reason.
fn expected(row: &Row) -> bool {
    row.level == Level::No && !row.note.is_empty()
}

fn print(r: &Report) {
    for (title, level) in [
        ("not supported (answers ENOSYS)", Level::No),
        ("with gaps", Level::Part),
    ] {
        let rows: Vec<_> = of_level(r, level).filter(|(row, _)| !expected(row)).collect();
        println!("{title}: {}", if rows.is_empty() { "none" } else { "" });
        for (row, u) in rows {
            let places: Vec<&str> = u.seen_in.iter().map(String::as_str).collect();
            let note = if row.note.is_empty() { "" } else { ": " };
            println!("  {}{note}{}  [{}]", row.name, row.note, places.join(", "));
        }
    }
    let without: Vec<&str> = of_level(r, Level::No)
        .filter(|(row, _)| expected(row))
        .map(|(row, _)| row.name)
        .collect();
    if !without.is_empty() {
        println!(
            "not there on purpose, libraries do without: {}",
            without.join(" ")
        );
    }
    let full: Vec<&str> = of_level(r, Level::Full).map(|(row, _)| row.name).collect();
    println!(
        "supported: {}",
        if full.is_empty() {
            "none found".to_string()
        } else {
            full.join(" ")
        }
    );
    if !r.strangers.is_empty() {
        let list: Vec<&str> = r.strangers.iter().map(String::as_str).collect();
        println!("no x86-64 call that is known: {}", list.join(" "));
    }
    for (name, path) in &r.libraries {
        println!("library: {name}: {}", path.as_deref().unwrap_or("not found"));
    }
    for n in &r.notes {
        println!("note: {n}");
    }
}

fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 || program.is_absolute() {
        return Some(program.to_path_buf());
    }
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path)
        .map(|d| d.join(program))
        .find(|p| p.is_file());
    found.or_else(|| program.exists().then(|| program.to_path_buf()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let fail = |e: std::io::Error| format!("{}: {}", path.display(), reason(&e));
    let meta = std::fs::metadata(path).map_err(fail)?;
    if !meta.is_file() {
        return Err(format!("{}: not a regular file", path.display()));
    }
    if meta.len() > MAX_FILE {
        return Err(format!("{}: longer than 1 GiB", path.display()));
    }
    std::fs::read(path).map_err(fail)
}

fn of_program(program: &Path) -> Result<Report, (i32, String)> {
    let path = find(program)
        .filter(|p| p.exists())
        .ok_or_else(|| (127, format!("{}: not found", program.display())))?;
    let mut report = Report::default();
    let mut path = path;
    let mut bytes = read(&path).map_err(|e| (126, e))?;
    for _ in 0..5 {
        let Some(script) = ftl_loader::script::parse(&bytes[..bytes.len().min(256)]) else {
            break;
        };
        let script = script.map_err(|e| (126, format!("{}: {e}", path.display())))?;
        let interp = String::from_utf8_lossy(&script.interp).into_owned();
        report.notes.push(format!(
            "{} is a script for {interp}: what it runs besides is not looked at",
            path.display()
        ));
        path = PathBuf::from(interp);
        bytes = read(&path).map_err(|e| (127, e))?;
    }
    scan(&mut report, &path, &bytes).map_err(|e| (126, format!("{}: {e}", path.display())))?;
    libraries(&mut report, &path, &bytes);
    if report.unknown_sites > 0 {
        report.notes.push(format!(
            "{} syscall instructions take their number from elsewhere, as syscall(3) does: see --strace-log",
            report.unknown_sites
        ));
    }
    report.notes.push(
        "a static estimate: code that never runs counts too, and what is loaded or made at run time does not"
            .into(),
    );
    Ok(report)
}

/// Calls made by a file's own instructions, and library functions named as system calls.
fn scan(report: &mut Report, path: &Path, bytes: &[u8]) -> Result<(), elf::ElfError> {
    let need = elf::head_len_needed(&bytes[..bytes.len().min(elf::EHDR_LEN)])?;
    let plan = elf::plan(&bytes[..need.min(bytes.len())], bytes.len() as u64)?;
    let place = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for s in plan.segments.iter().filter(|s| s.flags.contains(SegFlags::X)) {
        let text = &bytes[s.offset as usize..(s.offset + s.filesz) as usize];
        for call in patch::find_calls(text, s.vaddr) {
            match call.number.and_then(|n| table::row(u64::from(n))) {
                Some(row) => report.add(row, 1, &place),
                None => report.unknown_sites += 1,
            }
        }
    }
    for name in elf::needs(bytes).imports {
        if let Some(row) = by_name(name.trim_start_matches('_')) {
            report.add(row, 1, &place);
        }
    }
    Ok(())
}

/// glibc's and musl's own: they hold nearly every call there is, whether used or not.
fn is_libc(name: &str) -> bool {
    [
        "libc.so",
        "libc.musl",
        "ld-",
        "libpthread.so",
        "librt.so",
        "libdl.so",
        "libm.so",
        "libresolv.so",
        "libutil.so",
    ]
    .iter()
    .any(|p| name.starts_with(p))
}

fn libraries(report: &mut Report, program: &Path, bytes: &[u8]) {
    let mut todo: Vec<(PathBuf, elf::Needs)> = vec![(program.to_path_buf(), elf::needs(bytes))];
    while let Some((owner, needs)) = todo.pop() {
        for lib in &needs.libraries {
            if report.libraries.contains_key(lib) {
                continue;
            }
            let found = locate(lib, &owner, &needs.search);
            report
                .libraries
                .insert(lib.clone(), found.as_ref().map(|p| p.display().to_string()));
            let Some(path) = found.filter(|_| !is_libc(lib)) else {
                continue;
            };
            let Ok(bytes) = read(&path) else { continue };
            if let Err(e) = scan(report, &path, &bytes) {
                report.notes.push(format!("{}: {e}", path.display()));
            }
            let next = elf::needs(&bytes);
            todo.push((path, next));
        }
    }
}

fn locate(lib: &str, owner: &Path, search: &[String]) -> Option<PathBuf> {
    let full = std::fs::canonicalize(owner).unwrap_or_else(|_| owner.to_path_buf());
    let origin = full.parent().unwrap_or(Path::new("/")).display().to_string();
    let own = search
        .iter()
        .map(|s| s.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin));
    let env = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let env: Vec<String> = env
        .split(':')
        .filter(|p| !p.is_empty())
        .map(str::to_string)
        .collect();
    let usual = [
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib64",
        "/usr/lib64",
        "/lib",
        "/usr/lib",
        "/usr/local/lib",
    ];
    own.chain(env)
        .chain(usual.iter().map(|s| s.to_string()))
        .map(|d| Path::new(&d).join(lib))
        .find(|p| p.is_file())
}

fn of_log(log: &Path) -> Result<Report, String> {
    let bytes = read(log)?;
    let mut report = Report::default();
    for line in String::from_utf8_lossy(&bytes).lines() {
        let Some(name) = call_of_line(line) else { continue };
        match by_name(name) {
            Some(row) => report.add(row, 1, "strace"),
            None => drop(report.strangers.insert(name.to_string())),
        }
    }
    if report.calls.is_empty() && report.strangers.is_empty() {
        return Err(format!(
            "{}: no line looks like strace's: make it with strace -f -o FILE PROGRAM",
            log.display()
        ));
    }
    Ok(report)
}

/// The call that a line of strace begins: after `[pid N]` or a pid and a time. Ends of calls that were
/// interrupted by another task's line begin nothing.
fn call_of_line(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    if let Some(r) = rest.strip_prefix("[pid") {
        rest = r.split_once(']')?.1.trim_start();
    }
    while let Some((word, r)) = rest.split_once(' ') {
        let stamp = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || c == ':' || c == '.');
        if !stamp {
            break;
        }
        rest = r.trim_start();
    }
    let (name, _) = rest.split_once('(')?;
    let good = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    good.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_strace() {
        let cases = [
            ("read(3, \"\", 4096) = 0", Some("read")),
            ("[pid  7] openat(AT_FDCWD, \"x\") = 3", Some("openat")),
            (
                "4711 12:00:01.123456 futex(0x1, FUTEX_WAIT <unfinished ...>",
                Some("futex"),
            ),
            ("4711 <... futex resumed>) = 0", None),
            ("+++ exited with 0 +++", None),
            ("--- SIGCHLD {si_signo=SIGCHLD} ---", None),
        ];
        for (line, expected) in cases {
            assert_eq!(call_of_line(line), expected, "{line}");
        }
    }
}
