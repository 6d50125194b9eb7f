//! One trial per guest program, build and mode: `MODE/FAMILY/NAME/BUILD`.
//!
//! `cargo test -p ftl-ci --test conformance [FILTER]`. Environment: `FTVM_BIN` (the binary under test), `FTL_MODES`
//! (comma-separated; by default all, `checked` with `FTL_FULL` only), `FTL_SAMPLE` (run one trial in N; the choice depends on the names alone).

use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use ftl_ci::bounded::Outcome;
use ftl_ci::guests::{self, Build, Program};
use ftl_ci::known::Known;
use ftl_ci::modes::{Cut, Invocation, MODES, Mode};
use ftl_ci::{compare, place};
use libtest_mimic::{Arguments, Trial};

/// Native runs of a racy program, of which one must differ: each alone does so more often than not.
const RACES: usize = 100;

/// A program in one build, with its native outcome once somebody asked for it.
struct Case {
    program: Arc<Program>,
    build: &'static Build,
    native: OnceLock<Result<Outcome, String>>,
}

impl Case {
    fn run(&self, mode: &Mode) -> Result<Vec<Outcome>, String> {
        let p = &self.program;
        let binary = p.compile(self.build, &place::guest_cache())?;
        let file = binary.file_stem().unwrap_or_default().to_string_lossy();
        mode.run(&Invocation {
            // The end of the file's name is a hash of the source.
            name: &file,
            program: &binary,
            args: &p.args,
            stdin: p.stdin.as_deref(),
            limit: p.limit * mode.patience,
            env: &[],
            listens: ["net", "events", "held"].contains(&p.family.as_str()),
        })
    }

    fn native_outcome(&self) -> Result<&Outcome, String> {
        let native = self
            .native
            .get_or_init(|| self.run(&MODES[0])?.pop().ok_or("no outcome".into()));
        let outcome = native.as_ref().map_err(String::clone)?;
        compare::native_sane(outcome, self.program.exit)?;
        Ok(outcome)
    }

    /// A racy program that does the same each time would show nothing of replays.
    fn differs(&self, native: &Outcome) -> Result<(), String> {
        for _ in 0..RACES {
            let again = self.run(&MODES[0])?.pop().ok_or("no outcome")?;
            compare::native_sane(&again, self.program.exit)?;
            if again.stdout != native.stdout {
                return Ok(());
            }
        }
        Err(format!("the same {RACES} times natively\n{}", native.tail()))
    }

    /// Natively the program must do what it states, twice alike (a racy one: not always alike); in a mode it must do what it did
    /// natively.
    fn verdict(&self, mode: &Mode) -> Result<(), String> {
        let native = self.native_outcome()?;
        // One CPU shows few races.
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        if mode.is_native() && self.program.racy && cpus > 1 {
            self.differs(native)?;
        }
        let steps = self.run(mode)?;
        mode.judge(native, &steps, self.program.racy)
    }
}

fn sampled(name: &str, one_in: u64) -> bool {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish().is_multiple_of(one_in)
}

fn trials() -> Result<Vec<Trial>, String> {
    let usual = match env::var_os("FTL_FULL") {
        Some(_) => "native,run,replay,checked,cut,held",
        None => "native,run,replay,cut,held",
    };
    let modes = env::var("FTL_MODES").unwrap_or_else(|_| usual.into());
    let one_in = env::var("FTL_SAMPLE")
        .ok()
        .and_then(|n| n.parse().ok())
        .filter(|n| *n > 0)
        .unwrap_or(1);
    let guests_dir = place::repository().join("guests");

    let mut all = Vec::new();
    for program in guests::discover(&guests_dir.join("c"))?.into_iter().map(Arc::new) {
        for build in &program.builds {
            let case = Arc::new(Case {
                program: program.clone(),
                build,
                native: OnceLock::new(),
            });
            let fits = |m: &&Mode| match m.cut {
                Cut::No => true,
                Cut::AtEntries => !program.uncut,
                Cut::Held => program.held,
            };
            for mode in MODES.iter().filter(fits) {
                let name = format!("{}/{}/{}/{}", mode.name, program.family, program.name, build.name);
                all.push((name, mode, case.clone()));
            }
        }
    }
    let names: Vec<String> = all.iter().map(|(name, ..)| name.clone()).collect();
    let known = Arc::new(Known::read(&guests_dir.join("known-failures.txt"), &names)?);

    let total = all.len();
    all.retain(|(name, mode, _)| modes.split(',').any(|m| m == mode.name) && sampled(name, one_in));
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
    let lacking = case.program.lacking().is_some();
    let id = name.clone();
    Trial::test(name, move || Ok(known.judge(&id, case.verdict(mode))?)).with_ignored_flag(lacking)
}

fn main() -> ExitCode {
    if let Err(e) = place::shed_descriptors() {
        eprintln!("conformance: cannot start without inherited descriptors: {e}");
        return ExitCode::FAILURE;
    }
    let args = Arguments::from_args();
    match trials() {
        Ok(trials) => libtest_mimic::run(&args, trials).exit_code(),
        Err(e) => {
            eprintln!("conformance: {e}");
            ExitCode::FAILURE
        }
    }
}
