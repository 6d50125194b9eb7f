//! A cluster under load. Two scenarios with three apps as the sample of `ci/test`, all of them with ten apps where
//! `FTL_FULL` is set (`ci/test --full`). One that fails is repeated by `ci/cluster [--apps 10] SCENARIO`.
//!
//! `cargo test -p ftl-ci --test cluster [FILTER]`. Environment: `FTVM_BIN`, `FTL_FULL`.

use ftl_ci::cluster::{self, Scenario};
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::{Command, ExitCode};

/// A death: it takes in starting, protection, takeover, the scheduler and the attaching of new backups. And what is seen nowhere else:
/// secrets and hooks of an image that is protected.
const SAMPLE: [Scenario; 2] = [Scenario::Kill, Scenario::Secrets];

/// Apps of the full set.
const MANY: usize = 10;

/// One scenario in a process of its own.
fn trial(s: Scenario, apps: usize) -> Result<(), Failed> {
    let mut c = Command::new(env!("CARGO_BIN_EXE_cluster"));
    c.args(["--apps", &apps.to_string(), "--one", s.name()]);
    Ok(ftl_ci::trials::run(c)?)
}

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // Each of them keeps two cores busy.
    args.test_threads = Some(1);
    let possible = ftl_ci::trials::are_possible(env!("CARGO_BIN_EXE_faults"), "cluster scenarios");
    let full = std::env::var_os("FTL_FULL").is_some();
    let apps = if full { MANY } else { cluster::APPS };
    let wanted = |s: &Scenario| full || args.filter.is_some() || SAMPLE.contains(s);
    let trials = Scenario::ALL
        .into_iter()
        .filter(wanted)
        .map(|s| Trial::test(s.name(), move || trial(s, apps)).with_ignored_flag(!possible));
    libtest_mimic::run(&args, trials.collect()).exit_code()
}
