//! Application scenarios, in two forms. `guests/apps/NAME/scenario.sh` is run by the host's bash with `$RUN` as the
//! prefix of each command that belongs on the system under test. `guests/apps/NAME/image.sh` belongs there as a whole,
//! bash included: all its processes are of one image. To be cut by snapshots, scenarios of both forms are of one image, clients
//! and scripts too (`$RUN` is empty there).
//!
//! Directives are `# key: value` lines at the top: `needs` (commands that must be there), `optional` (a file in the guests'
//! cache without which the scenario is ignored), `timeout` (seconds), `quick` (part of the short sample). What the script prints natively is the expectation.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bounded::Outcome;
use crate::modes::{self, Cut, Invocation, Mode};
use crate::place::{self, Scratch};

/// One scenario.
pub struct Scenario {
    /// Its folder's name.
    pub name: String,
    dir: PathBuf,
    /// `image.sh`, not `scenario.sh`.
    pub whole: bool,
    needs: Vec<String>,
    optional: Option<String>,
    /// Part of the short sample.
    pub quick: bool,
    /// Hard limit of one run.
    pub limit: Duration,
}

/// All scenarios under `top` (`guests/apps`), sorted.
pub fn discover(top: &Path) -> Result<Vec<Scenario>, String> {
    let entries = fs::read_dir(top).map_err(|e| format!("{}: {e}", top.display()))?;
    let mut found = Vec::new();
    for dir in entries.flatten().map(|e| e.path()) {
        for whole in [false, true] {
            if let Ok(text) = fs::read_to_string(dir.join(script(whole))) {
                found.push(Scenario::read(dir.clone(), whole, &text)?);
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// File name of a scenario's script.
fn script(whole: bool) -> &'static str {
    if whole { "image.sh" } else { "scenario.sh" }
}

impl Scenario {
    fn read(dir: PathBuf, whole: bool, text: &str) -> Result<Scenario, String> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Only what hangs takes as long, on a machine that is busy elsewhere too.
        let limit = Duration::from_secs(180);
        let mut scenario = Scenario {
            name,
            dir,
            whole,
            needs: Vec::new(),
            optional: None,
            quick: false,
            limit,
        };
        for line in text.lines() {
            let Some(line) = line.strip_prefix('#') else { break };
            let (key, value) = line.split_once(':').unwrap_or((line, ""));
            match key.trim() {
                "needs" => scenario.needs = value.split_whitespace().map(str::to_owned).collect(),
                "optional" => scenario.optional = Some(value.trim().to_owned()),
                "quick" => scenario.quick = true,
                "timeout" => {
                    let seconds = value
                        .trim()
                        .parse()
                        .map_err(|e| format!("{}: timeout: {e}", scenario.name))?;
                    scenario.limit = Duration::from_secs(seconds);
                }
                _ => {}
            }
        }
        Ok(scenario)
    }

    /// It is for what `ci/install` brings only if asked, and that is not there.
    pub fn is_left_out(&self) -> bool {
        let cache = place::guest_cache();
        self.optional
            .as_ref()
            .is_some_and(|file| !cache.join(file).exists())
    }

    /// A command that it needs and the host lacks.
    fn lacking(&self) -> Option<&str> {
        let path = format!("/usr/sbin:/sbin:{}", env::var("PATH").unwrap_or_default());
        let there = |c: &str| {
            c.starts_with('/') && Path::new(c).exists()
                || path.split(':').any(|d| Path::new(d).join(c).exists())
        };
        self.needs.iter().map(String::as_str).find(|c| !there(c))
    }

    /// Runs the script, once per step of the mode if all of it is of the image. A missing program is a failure:
    /// `ci/install` brings them all.
    pub fn run(&self, mode: &Mode) -> Result<Vec<Outcome>, String> {
        if let Some(command) = self.lacking() {
            return Err(format!("{command} is not installed: run ci/install"));
        }
        let cache = place::guest_cache();
        let path = self.dir.join(script(self.whole)).display().to_string();
        let args = [path];
        let mut env = vec![
            ("SCENARIO", self.dir.display().to_string()),
            ("LIB", self.dir.with_file_name("lib.sh").display().to_string()),
            ("BUILD_CACHE", cache.display().to_string()),
            ("CRATES", place::crates().display().to_string()),
        ];
        if self.whole || mode.cut != Cut::No {
            env.push(("RUN", String::new()));
            return mode.run(&self.invocation(&args, &env));
        }
        let scratch = Scratch::new().map_err(|e| format!("no scratch directory: {e}"))?;
        let prefix = mode.prefix(&scratch)?.ok_or("this mode has no command prefix")?;
        env.push(("RUN", prefix));
        let what = self.invocation(&args, &env);
        let mut bash = Command::new("bash");
        bash.args(&args);
        let outcome = modes::spawn(bash, &what, &scratch)?;
        // A script that failed says more than the replay of its commands.
        if outcome.code == 0 && !outcome.timed_out {
            mode.reproduce(&what, &scratch)?;
        }
        Ok(vec![outcome])
    }

    fn invocation<'a>(&'a self, args: &'a [String], env: &'a [(&'a str, String)]) -> Invocation<'a> {
        Invocation {
            name: &self.name,
            program: Path::new("bash"),
            args,
            stdin: None,
            limit: self.limit,
            env,
            listens: false,
        }
    }
}
