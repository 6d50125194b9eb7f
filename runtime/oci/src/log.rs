//! What the runtime has to say: to `--log` in the format of `--log-format`, as runc writes it, so that podman and
//! containerd find the error there; errors also to stderr.

use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Format of `--log`.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `time="..." level=... msg="..."`
    Text,
    /// One object a line.
    Json,
}

struct Log {
    file: Option<PathBuf>,
    format: Format,
    debug: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();
static HELD: OnceLock<File> = OnceLock::new();

/// Where to write, once.
pub fn set(file: Option<PathBuf>, format: Format, debug: bool) {
    let _ = LOG.set(Log { file, format, debug });
}

/// Opens the file now, for all that is written from here on.
pub fn hold() {
    if let Some(path) = LOG.get().and_then(|l| l.file.as_ref())
        && let Ok(file) = open(path)
    {
        let _ = HELD.set(file);
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().append(true).create(true).open(path)
}

/// What was asked for and is not so.
pub fn warn(what: &str) {
    write("warning", what);
}

/// What the image has by itself, so that nothing had to be done.
pub fn debug(what: &str) {
    if LOG.get().is_some_and(|l| l.debug) {
        write("debug", what);
    }
}

/// Why the command failed.
pub fn error(what: &str) {
    write("error", what);
    // Whoever has no log reads this.
    let _ = writeln!(std::io::stderr(), "ftvm-oci: {what}");
}

fn write(level: &str, what: &str) {
    let Some(log) = LOG.get() else { return };
    let Some(path) = &log.file else {
        if level != "error" && log.debug {
            let _ = writeln!(std::io::stderr(), "ftvm-oci: {level}: {what}");
        }
        return;
    };
    let time = now();
    let line = match log.format {
        Format::Json => json!({"level": level, "msg": what, "time": time}).to_string(),
        Format::Text => format!("time={time:?} level={level} msg={what:?}"),
    };
    let line = format!("{line}\n");
    // Without a log there is nobody to tell that there is none.
    let _ = match HELD.get() {
        Some(mut file) => file.write_all(line.as_bytes()),
        None => open(path).and_then(|mut f| f.write_all(line.as_bytes())),
    };
}

/// This moment as RFC 3339 has it, in UTC.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs(), since.subsec_nanos())
}

/// Howard Hinnant's `civil_from_days`, for days since 1970.
fn rfc3339(secs: u64, nanos: u32) -> String {
    let (days, rest) = (secs / 86_400, secs % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (
        doy - (153 * mp + 2) / 5 + 1,
        if mp < 10 { mp + 3 } else { mp - 9 },
    );
    let year = yoe + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (rest / 3600, rest % 3600 / 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_827_696, 5), "2000-02-29T12:34:56.000000005Z");
        assert_eq!(rfc3339(4_107_542_399, 0), "2100-02-28T23:59:59.000000000Z");
    }
}
