//! One trial per application scenario and mode: `MODE/apps/NAME`.
//!
//! `cargo test -p ftl-ci --test apps [FILTER]`. Environment: `FTVM_BIN`, `FTL_MODES` as for the conformance trials;
//! `FTL_APPS=quick` takes the short sample.

use std::env;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use ftl_ci::apps::{self, Scenario};
use ftl_ci::bounded::Outcome;
use ftl_ci::known::Known;
use ftl_ci::modes::{Cut, MODES, Mode};
use ftl_ci::{compare, place};
use libtest_mimic::{Arguments, Trial};

/// A scenario, with its native outcome once somebody asked for it.
struct Case {
    scenario: Scenario,
    native: OnceLock<Result<Outcome, String>>,
}

impl Case {
    /// Natively the scenario must do the same twice; in a mode it must do what it did natively.
    fn verdict(&self, mode: &Mode) -> Result<(), String> {
        let native = self
            .native
            .get_or_init(|| self.scenario.run(&MODES[0])?.pop().ok_or("no outcome".into()));
        let native = native.as_ref().map_err(String::clone)?;
        compare::native_sane(native, 0)?;
        mode.judge(native, &self.scenario.run(mode)?, false)
    }
}

fn trials() -> Result<Vec<Trial>, String> {
    let wanted = env::var("FTL_MODES").unwrap_or_else(|_| "native,run,replay,cut".into());
    let quick = env::var("FTL_APPS").is_ok_and(|v| v == "quick");
    let guests = place::repository().join("guests");
    let mut all = Vec::new();
    for scenario in apps::discover(&guests.join("apps"))? {
        let case = Arc::new(Case {
            scenario,
            native: OnceLock::new(),
        });
        let fits = |m: &&Mode| match m.cut {
            Cut::No | Cut::AtEntries => true,
            Cut::Held => false,
        };
        for mode in MODES.iter().filter(fits) {
            all.push((
                format!("{}/apps/{}", mode.name, case.scenario.name),
                mode,
                case.clone(),
            ));
        }
    }
    let names: Vec<String> = all.iter().map(|(name, ..)| name.clone()).collect();
    let known = Arc::new(Known::read(&guests.join("known-failures-apps.txt"), &names)?);
    let total = all.len();
    all.retain(|(_, mode, case)| {
        wanted.split(',').any(|m| m == mode.name) && (!quick || case.scenario.quick)
    });
    let kept: Vec<String> = all.iter().map(|(name, ..)| name.clone()).collect();
    eprintln!(
        "{} of {total} trials, {} of them known failures",
        kept.len(),
        known.count(&kept)
    );
    Ok(all
        .into_iter()
        .map(|(name, mode, case)| trial(name, mode, case, known.clone()))
        .collect())
}

fn trial(name: String, mode: &'static Mode, case: Arc<Case>, known: Arc<Known>) -> Trial {
    let id = name.clone();
    let left_out = case.scenario.is_left_out();
    Trial::test(name, move || Ok(known.judge(&id, case.verdict(mode))?)).with_ignored_flag(left_out)
}

fn main() -> ExitCode {
    if let Err(e) = place::shed_descriptors() {
        eprintln!("apps: cannot start without inherited descriptors: {e}");
        return ExitCode::FAILURE;
    }
    let args = Arguments::from_args();
    match trials() {
        Ok(trials) => libtest_mimic::run(&args, trials).exit_code(),
        Err(e) => {
            eprintln!("apps: {e}");
            ExitCode::FAILURE
        }
    }
}
