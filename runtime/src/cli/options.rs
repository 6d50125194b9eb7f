//! Options as values: sizes, users, environment, volumes. Every error names the option and says what
//! would be right.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// An option's value that cannot be used: one line for the user.
pub type Wrong = String;

/// `512m`, `2GiB`, `4096`: bytes, with the units of podman (k, m, g, t are powers of 1024).
pub fn size(text: &str) -> Result<u64, Wrong> {
    let wrong = || format!("{text:?} is not a size: write bytes or a number with k, m, g or t, as in 512m");
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let n: u64 = digits.parse().map_err(|_| wrong())?;
    n.checked_shl(shift)
        .filter(|v| v >> shift == n && n > 0)
        .ok_or_else(wrong)
}

/// Thousandths of a CPU, from a number of CPUs; 0: no limit, as an image uses one.
pub fn cpus(text: &str) -> Result<u32, Wrong> {
    let wrong = || format!("{text:?} is no number of CPUs: write one from 0.01 on, as 0.5");
    let n: f64 = text.parse().map_err(|_| wrong())?;
    match ftl_images::config::Cpus::try_from(n) {
        Ok(c) if c.thousandths() < crate::quota::WHOLE => Ok(c.thousandths()),
        Ok(_) => Ok(0),
        Err(_) => Err(wrong()),
    }
}

/// `90`, `90s`, `40ms`, `10m`, `2h`: a time.
pub fn interval(text: &str) -> Result<std::time::Duration, Wrong> {
    let wrong = || format!("{text:?} is no time: write seconds, or a number with ms, s, m or h, as in 10m");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let n: u64 = digits.parse().map_err(|_| wrong())?;
    let ms = n.checked_mul(unit).filter(|ms| *ms > 0).ok_or_else(wrong)?;
    Ok(std::time::Duration::from_millis(ms))
}

/// `root`, `UID` or `UID:GID`: ids of the image's first process.
pub fn user(text: &str) -> Result<(u32, u32), Wrong> {
    if text == "root" {
        return Ok((0, 0));
    }
    let wrong = || format!("{text:?} is not a user: write root, UID or UID:GID with numbers");
    let id = |s: &str| s.parse::<u32>().ok().filter(|v| *v != u32::MAX).ok_or_else(wrong);
    match text.split_once(':') {
        Some((u, g)) => Ok((id(u)?, id(g)?)),
        None => id(text).map(|u| (u, u)),
    }
}

/// Capability sets as bits by CAP_* number: effective, permitted, inheritable, bounding, ambient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(pub [u64; 5]);

/// Five hexadecimal numbers.
pub fn capabilities(text: &str) -> Result<Capabilities, Wrong> {
    let wrong = || {
        format!("{text:?} are no capability sets: write five hex numbers as in /proc/PID/status, with commas")
    };
    let sets = text.split(',').map(|t| u64::from_str_radix(t, 16));
    let sets: Vec<u64> = sets.collect::<Result<_, _>>().map_err(|_| wrong())?;
    let sets: [u64; 5] = sets.try_into().map_err(|_| wrong())?;
    if sets.iter().any(|s| s & !ftl_abi::task::ALL_CAPS != 0) {
        return Err(format!("{text:?}: a capability that is not known"));
    }
    Ok(Capabilities(sets))
}

/// A limit: RLIMIT_* number, soft, hard.
pub type Ulimit = (usize, u64, u64);

/// Names of limits by number, as prlimit(1) has them.
const LIMITS: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// `NAME=SOFT[:HARD]` with numbers or `unlimited`.
pub fn ulimit(text: &str) -> Result<Ulimit, Wrong> {
    let wrong = || format!("{text:?} is no limit: write NAME=SOFT or NAME=SOFT:HARD, as in nofile=1024:4096");
    let number = |t: &str| match t {
        "unlimited" => Ok(u64::MAX),
        t => t.parse::<u64>().map_err(|_| wrong()),
    };
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let which = LIMITS
        .iter()
        .position(|n| *n == name)
        .ok_or_else(|| format!("{name:?} is no limit: one of {}", LIMITS.join(" ")))?;
    let (soft, hard) = match value.split_once(':') {
        Some((s, h)) => (number(s)?, number(h)?),
        None => (number(value)?, number(value)?),
    };
    if soft > hard {
        return Err(format!("{text:?}: the soft limit is above the hard one"));
    }
    Ok((which, soft, hard))
}

/// A host name that uname(2) can hold.
pub fn hostname(text: &str) -> Result<String, Wrong> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    if text.is_empty() || text.len() > 64 || !text.chars().all(good) {
        return Err(format!(
            "{text:?} is not a host name: 1 to 64 letters, digits, -, _ and ."
        ));
    }
    Ok(text.to_string())
}

/// Name of a run, as a file name that needs no quoting.
pub fn run_name(text: &str) -> Result<String, Wrong> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if !first || text.len() > 64 || !text.chars().all(good) {
        return Err(format!(
            "{text:?} is not a name: 1 to 64 letters, digits, _ . and -, a letter or digit first"
        ));
    }
    Ok(text.to_string())
}

/// A host directory in the image: host path, guest path, read-only.
pub type Volume = (Vec<u8>, Vec<u8>, bool);

/// `HOST:GUEST[:ro|:rw]` with an existing directory and an absolute guest path.
pub fn volume(spec: &OsStr) -> Result<Volume, Wrong> {
    let wrong = |why: String| format!("-v {}: {why}", spec.to_string_lossy());
    let form = || wrong("write HOST:GUEST or HOST:GUEST:ro".into());
    let mut parts = spec.as_bytes().split(|b| *b == b':');
    let (Some(host), Some(guest)) = (parts.next(), parts.next()) else {
        return Err(form());
    };
    let read_only = match (parts.next(), parts.next()) {
        (None, _) | (Some(b"rw"), None) => false,
        (Some(b"ro"), None) => true,
        _ => return Err(form()),
    };
    if host.is_empty() || guest.is_empty() {
        return Err(form());
    }
    if guest[0] != b'/' {
        return Err(wrong("the path in the image must be absolute".into()));
    }
    let host = OsStr::from_bytes(host);
    let host = directory(Path::new(host)).map_err(wrong)?;
    Ok((host, clean(guest), read_only))
}

/// An existing directory as an absolute path.
pub fn directory(path: &Path) -> Result<Vec<u8>, Wrong> {
    let full = std::fs::canonicalize(path).map_err(|e| format!("{}: {}", path.display(), reason(&e)))?;
    if !full.is_dir() {
        return Err(format!(
            "{} is not a directory: name the directory that holds it",
            path.display()
        ));
    }
    Ok(full.into_os_string().into_vec())
}

/// Without `.`, empty components and a trailing slash; `..` goes up.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            p => parts.push(p),
        }
    }
    let mut out = Vec::new();
    for p in &parts {
        out.push(b'/');
        out.extend_from_slice(p);
    }
    if out.is_empty() { b"/".to_vec() } else { out }
}

/// What an I/O error says, without "(os error 2)".
pub fn reason(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}

/// Sets `NAME=VALUE`; a bare `NAME` takes the user's own value, or removes it if there is none.
fn set(env: &mut Vec<(OsString, OsString)>, entry: &[u8], own: &[(OsString, OsString)]) -> Result<(), Wrong> {
    let (name, value) = match entry.iter().position(|b| *b == b'=') {
        Some(i) => (
            &entry[..i],
            Some(OsStr::from_bytes(&entry[i + 1..]).to_os_string()),
        ),
        None => (entry, None),
    };
    if name.is_empty() {
        return Err(format!(
            "{:?} is not an environment entry: write NAME=VALUE or NAME",
            String::from_utf8_lossy(entry)
        ));
    }
    let name = OsStr::from_bytes(name).to_os_string();
    let value = value.or_else(|| own.iter().find(|(k, _)| *k == name).map(|(_, v)| v.clone()));
    env.retain(|(k, _)| *k != name);
    if let Some(v) = value {
        env.push((name, v));
    }
    Ok(())
}

/// The guest's environment: the user's, then the files, then the single entries, the last one wins.
pub fn environment(
    own: Vec<(OsString, OsString)>,
    files: &[std::path::PathBuf],
    entries: &[OsString],
) -> Result<Vec<(OsString, OsString)>, Wrong> {
    environment_over(own.clone(), &own, files, entries)
}

/// The same over another environment than the user's `own`, from which bare names still come.
pub fn environment_over(
    mut env: Vec<(OsString, OsString)>,
    own: &[(OsString, OsString)],
    files: &[std::path::PathBuf],
    entries: &[OsString],
) -> Result<Vec<(OsString, OsString)>, Wrong> {
    for file in files {
        let text =
            std::fs::read(file).map_err(|e| format!("--env-file {}: {}", file.display(), reason(&e)))?;
        for (n, line) in text.split(|b| *b == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            set(&mut env, line, own)
                .map_err(|e| format!("--env-file {}, line {}: {e}", file.display(), n + 1))?;
        }
    }
    for e in entries {
        set(&mut env, e.as_bytes(), own).map_err(|e| format!("-e: {e}"))?;
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("512m"), Ok(512 << 20));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        for bad in ["", "m", "1x", "-1", "0", "99999999999t"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_have_units() {
        let s = std::time::Duration::from_secs;
        assert_eq!(interval("90"), Ok(s(90)));
        assert_eq!(interval("40ms"), Ok(std::time::Duration::from_millis(40)));
        assert_eq!(interval("10m"), Ok(s(600)));
        assert_eq!(interval("2h"), Ok(s(7200)));
        for bad in ["", "m", "0", "1d", "-1"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_have_names_and_an_order() {
        assert_eq!(ulimit("nofile=10:20"), Ok((7, 10, 20)));
        assert_eq!(ulimit("core=unlimited"), Ok((4, u64::MAX, u64::MAX)));
        for bad in ["nofile", "nofile=", "nofile=2:1", "files=1", "nofile=1:2:3"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn capability_sets_are_five_known_ones() {
        assert_eq!(
            capabilities("1,2,0,1ffffffffff,0"),
            Ok(Capabilities([1, 2, 0, (1 << 41) - 1, 0]))
        );
        for bad in ["", "1,2,3,4", "1,2,3,4,5,6", "x,0,0,0,0", "20000000000,0,0,0,0"] {
            assert!(capabilities(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn users_are_numbers_or_root() {
        assert_eq!(user("root"), Ok((0, 0)));
        assert_eq!(user("7"), Ok((7, 7)));
        assert_eq!(user("7:8"), Ok((7, 8)));
        assert!(user("nobody").is_err() && user("1:").is_err() && user("4294967295").is_err());
    }

    #[test]
    fn volumes_say_what_is_wrong() {
        let v = |s: &str| volume(OsStr::new(s));
        assert_eq!(
            v("/usr:/x/../y/:ro"),
            Ok((b"/usr".to_vec(), b"/y".to_vec(), true))
        );
        assert!(v("/usr").is_err_and(|e| e.contains("write HOST:GUEST")));
        assert!(v("/usr:/x:rx").is_err());
        assert!(v("/usr:/x:ro:z").is_err());
        assert!(v("/usr:x").is_err_and(|e| e.contains("absolute")));
        assert!(v("/no/such:/x").is_err_and(|e| e.contains("No such file")));
        assert!(v("/etc/passwd:/x").is_err_and(|e| e.contains("not a directory")));
    }

    #[test]
    fn the_last_environment_entry_wins() {
        let own = vec![("A".into(), "1".into()), ("B".into(), "2".into())];
        let env = environment(
            own.clone(),
            &[],
            &["A=3".into(), "C=".into(), "B".into(), "D".into()],
        );
        let expected: Vec<(OsString, OsString)> = vec![
            ("A".into(), "3".into()),
            ("C".into(), "".into()),
            ("B".into(), "2".into()),
        ];
        assert_eq!(env, Ok(expected));
        assert!(environment(own, &[], &["=x".into()]).is_err());
    }
}
