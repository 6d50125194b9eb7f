//! The ways a program is run. A mode is data: the commands of `ftvm` that lead to the output which is compared.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::bounded::{self, Outcome};
use crate::compare;
use crate::cut;
use crate::place::{self, Scratch};

/// One command of `ftvm`. In its arguments `{side}` stands for the test's own folder for logs and state.
pub struct Step {
    /// Arguments of ftvm.
    pub args: &'static [&'static str],
    /// Whether `-- PROGRAM ARGS` follows.
    pub program: bool,
}

/// A way to run a program; each step's output is compared with the native one. No steps means native.
pub struct Mode {
    /// Name, the first part of a trial's name.
    pub name: &'static str,
    /// What is run, in order.
    pub steps: &'static [Step],
    /// Whether a run is cut into parts: [`crate::cut`].
    pub cut: Cut,
    /// A program's limit is for so much: hundreds of anchors are written, each made durable and replayed from.
    pub patience: u32,
}

/// Where a run is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Nowhere.
    No,
    /// After the steps once more, at random entries.
    AtEntries,
    /// Where the program says that it is in the state that it is about: there are no steps.
    Held,
}

/// All modes. A step without a program reproduces what the one before it did: its output must be that of the
/// first step to the byte, and its exit code 0 ("as recorded").
pub const MODES: &[Mode] = &[
    Mode {
        name: "native",
        steps: &[],
        cut: Cut::No,
        patience: 1,
    },
    Mode {
        name: "run",
        steps: &[Step {
            args: &["run"],
            program: true,
        }],
        cut: Cut::No,
        patience: 1,
    },
    Mode {
        name: "replay",
        steps: &[RECORD, REPLAY, REPLAY],
        cut: Cut::No,
        patience: 1,
    },
    Mode {
        name: "checked",
        steps: &[Step {
            args: &[
                "record",
                "--check-sampled=4",
                "--anchor-every",
                "event:400",
                "-o",
                "{side}/log.%p",
            ],
            program: true,
        }],
        cut: Cut::No,
        patience: 6,
    },
    Mode {
        name: "cut",
        steps: &[Step {
            args: &["run", "--count-entries", "{side}/entries"],
            program: true,
        }],
        cut: Cut::AtEntries,
        patience: 1,
    },
    Mode {
        name: "held",
        steps: &[],
        cut: Cut::Held,
        patience: 1,
    },
];

/// `%p` makes every command of a script a log of its own.
const RECORD: Step = Step {
    args: &["record", "--check-memory", "-o", "{side}/log.%p"],
    program: true,
};
const REPLAY: Step = Step {
    args: &["replay", "{log}"],
    program: false,
};

/// The program and what it is given.
pub struct Invocation<'a> {
    /// What the places of cuts follow from, beside the seed.
    pub name: &'a str,
    /// Path or name of the program.
    pub program: &'a Path,
    /// Its arguments.
    pub args: &'a [String],
    /// What it reads on standard input.
    pub stdin: Option<&'a str>,
    /// Hard limit for one step.
    pub limit: Duration,
    /// Variables beside the fixed ones.
    pub env: &'a [(&'a str, String)],
    /// It listens on ports of the host, whatever they are: where it is cut it gets a network of its own.
    pub listens: bool,
}

impl Mode {
    /// Whether programs run directly on Linux.
    pub fn is_native(&self) -> bool {
        self.steps.is_empty() && self.cut == Cut::No
    }

    /// What a script puts before a command to run it in this mode, for a mode of one step; empty natively.
    pub fn prefix(&self, scratch: &Scratch) -> Result<Option<String>, String> {
        match self.steps {
            _ if self.cut != Cut::No => Ok(None),
            [] => Ok(Some(String::new())),
            [Step { args, program: true }, rest @ ..] if rest.iter().all(|s| !s.program) => {
                let side = scratch.side().display().to_string();
                let args = args
                    .iter()
                    .map(|a| a.replace("{side}", &side))
                    .collect::<Vec<_>>()
                    .join(" ");
                Ok(Some(format!("{} {args} --", place::ftvm()?.display())))
            }
            _ => Ok(None),
        }
    }

    /// Runs the program in a fresh directory, once per step, and returns each step's outcome.
    pub fn run(&self, what: &Invocation) -> Result<Vec<Outcome>, String> {
        let scratch = Scratch::new().map_err(|e| format!("no scratch directory: {e}"))?;
        let mut outcomes = Vec::new();
        if self.is_native() {
            outcomes.push(spawn(direct(what), what, &scratch)?);
        }
        for step in self.steps {
            let mut command = Command::new(place::ftvm()?);
            let side = scratch.side().display().to_string();
            let log = logs(&scratch)
                .first()
                .map(|l| l.display().to_string())
                .unwrap_or_default();
            command.args(
                step.args
                    .iter()
                    .map(|a| a.replace("{side}", &side).replace("{log}", &log)),
            );
            if step.program {
                command.arg("--").arg(what.program).args(what.args);
            }
            outcomes.push(spawn(command, what, &scratch)?);
        }
        match self.cut {
            Cut::AtEntries if outcomes.iter().all(|o| !o.timed_out) => {
                outcomes.push(cut::run(what, cut::entries(&scratch)?)?);
            }
            Cut::Held => outcomes.push(cut::held(what)?),
            _ => {}
        }
        Ok(outcomes)
    }

    /// True if `step` of this mode reproduces the step before it.
    fn reproduces(&self, step: usize) -> bool {
        self.steps.get(step).is_some_and(|s| !s.program)
    }

    /// Whether the outcomes of [`Mode::run`] are what the native one asks for. `racy`: see [`compare::same`].
    pub fn judge(&self, native: &Outcome, steps: &[Outcome], racy: bool) -> Result<(), String> {
        for (step, ours) in steps.iter().enumerate() {
            if self.reproduces(step) {
                compare::reproduced(&steps[0], ours)
            } else {
                compare::same(native, ours, racy)
            }
            .map_err(|e| format!("step {step}: {e}"))?;
        }
        Ok(())
    }

    /// After a script has run with [`Mode::prefix`]: every log that its commands left is reproduced.
    pub fn reproduce(&self, what: &Invocation, scratch: &Scratch) -> Result<(), String> {
        for step in self.steps.iter().filter(|s| !s.program) {
            for log in logs(scratch) {
                let mut command = Command::new(place::ftvm()?);
                let log = log.display().to_string();
                command.args(step.args.iter().map(|a| a.replace("{log}", &log)));
                let outcome = spawn(command, what, scratch)?;
                if outcome.timed_out || outcome.code != 0 {
                    return Err(format!(
                        "replay of {log}: exit code {}{}\n{}",
                        outcome.code,
                        if outcome.timed_out { ", out of time" } else { "" },
                        outcome.tail()
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The logs that recording steps have left.
fn logs(scratch: &Scratch) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(scratch.side()).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .map(|e| e.path())
        .filter(|p| {
            p.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("log."))
        })
        .collect();
    found.sort();
    found
}

fn direct(what: &Invocation) -> Command {
    let mut command = Command::new(what.program);
    command.args(what.args);
    command
}

/// Runs a command as both sides do.
pub fn spawn(mut command: Command, what: &Invocation, scratch: &Scratch) -> Result<Outcome, String> {
    surround(&mut command, what, scratch);
    bounded::run(command, what.stdin, what.limit).map_err(|e| format!("cannot run: {e}"))
}

/// The same small environment on both sides, so that a difference is never the caller's.
pub fn surround(command: &mut Command, what: &Invocation, scratch: &Scratch) {
    command.env_clear().current_dir(scratch.cwd());
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command
        .env("HOME", scratch.cwd())
        .env("XDG_RUNTIME_DIR", scratch.side());
    command
        .env("LANG", "C.UTF-8")
        .env("TZ", "UTC")
        .env("TERM", "xterm")
        .env("FTL_GUEST", "1");
    command.envs(what.env.iter().map(|(k, v)| (k, v)));
}
