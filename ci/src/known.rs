//! The file of known failures: sorted lines `mode/family/name[/build] reason`.
//!
//! A listed case that fails is expected; one that passes makes the run fail, so the list never outlives its reasons.

use std::collections::BTreeMap;
use std::path::Path;

/// What is known to fail, and why.
#[derive(Default)]
pub struct Known {
    reasons: BTreeMap<String, String>,
}

impl Known {
    /// Reads the file; an unsorted line, a missing reason or a name that is no trial is an error.
    pub fn read(path: &Path, trials: &[String]) -> Result<Known, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let known = Known::parse(&text)?;
        for name in known.reasons.keys() {
            if !trials.iter().any(|t| covers(name, t)) {
                return Err(format!("{}: {name} is no trial", path.display()));
            }
        }
        Ok(known)
    }

    fn parse(text: &str) -> Result<Known, String> {
        let mut reasons = BTreeMap::new();
        let mut last = "";
        for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let (name, reason) = line.split_once(' ').ok_or_else(|| format!("no reason: {line}"))?;
            if name <= last {
                return Err(format!("known failures are not sorted at {name}"));
            }
            last = name;
            reasons.insert(name.to_owned(), reason.trim().to_owned());
        }
        Ok(Known { reasons })
    }

    /// The reason why this trial fails, if it is listed.
    pub fn reason(&self, trial: &str) -> Option<&str> {
        self.reasons
            .iter()
            .find(|(name, _)| covers(name, trial))
            .map(|(_, why)| why.as_str())
    }

    /// Turns a trial's result into what the run should report.
    pub fn judge(&self, trial: &str, result: Result<(), String>) -> Result<(), String> {
        match (self.reason(trial), result) {
            (Some(why), Ok(())) => Err(format!(
                "passes, but is listed as a known failure ({why}): take it off the list"
            )),
            (Some(_), Err(_)) => Ok(()),
            (None, result) => result,
        }
    }

    /// How many of these trials are expected to fail.
    pub fn count(&self, trials: &[String]) -> usize {
        trials.iter().filter(|t| self.reason(t).is_some()).count()
    }
}

/// A line names one build of a program, or with the build left out all of them. What fails under `run` fails
/// in the same way while it is recorded, before there is anything to replay.
fn covers(name: &str, trial: &str) -> bool {
    let exactly = |trial: &str| {
        trial
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    exactly(trial)
        || trial
            .strip_prefix("replay/")
            .is_some_and(|rest| exactly(&format!("run/{rest}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_listed_and_unlisted() {
        let known = Known::parse("# note\nrun/a/b why\nrun/a/c/musl other\n").unwrap();
        assert!(known.judge("run/a/b/static", Err("x".into())).is_ok());
        assert!(known.judge("run/a/b/static", Ok(())).is_err());
        assert!(known.judge("run/a/c/static", Err("x".into())).is_err());
        assert!(known.judge("run/a/c/musl", Err("x".into())).is_ok());
        assert!(known.judge("run/a/bc/static", Ok(())).is_ok());
        assert!(known.judge("replay/a/b/static", Err("x".into())).is_ok());
    }

    #[test]
    fn refuses_a_sloppy_list() {
        assert!(Known::parse("run/b x\nrun/a x\n").is_err());
        assert!(Known::parse("run/a\n").is_err());
    }
}
