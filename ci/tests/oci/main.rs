//! `ftvm-oci` as podman's conmon drives it, against what runtime-spec says; and under podman itself, as root and rootless.
//!
//! `cargo test -p ftl-ci --test oci [FILTER]`. Environment: `FTVM_BIN`; ftvm-oci lies beside it.

mod bundle;
mod care;
mod direct;
mod podman;

use std::process::{Command, ExitCode};

use ftl_ci::place;
use libtest_mimic::{Arguments, Trial};

/// Mounts of our own can be made here: as root, or in a user namespace.
fn namespaces() -> Result<(), String> {
    let args: &[&str] = if bundle::root() {
        &["-m", "true"]
    } else {
        &["-Urm", "true"]
    };
    let out = Command::new("unshare")
        .args(args)
        .output()
        .map_err(|e| format!("unshare: {e}"))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&out.stderr).trim().to_string()),
    }
}

fn main() -> ExitCode {
    if let Err(e) = place::shed_descriptors() {
        eprintln!("oci: cannot start without inherited descriptors: {e}");
        return ExitCode::FAILURE;
    }
    // Containers' first processes become ours when `create` has ended, as they become conmon's.
    if let Err(e) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        eprintln!("oci: no subreaper: {e}");
        return ExitCode::FAILURE;
    }
    let args = Arguments::from_args();
    let direct = namespaces();
    if let Err(why) = &direct {
        eprintln!("oci: no mount namespace can be made here, all is ignored: {why}");
    }
    let mut trials = Vec::new();
    for (name, trial) in direct::ALL.iter().chain(care::ALL) {
        let privileged = [direct::NEEDS_ROOT, care::NEEDS_ROOT]
            .iter()
            .any(|all| all.contains(name))
            && !bundle::root();
        if privileged {
            eprintln!("oci: direct/{name} needs root: ignored");
        }
        let lacks = direct.is_err() || privileged;
        trials.push(Trial::test(format!("direct/{name}"), || Ok(trial()?)).with_ignored_flag(lacks));
    }
    for (who, podman) in podman::users() {
        let there = direct.clone().and_then(|()| podman.works());
        if let Err(why) = &there {
            eprintln!("oci: podman does not work here as {who}, ignored: {why}");
        }
        for (name, trial) in podman::ALL {
            let podman = podman.clone();
            let test = Trial::test(format!("podman/{who}/{name}"), move || Ok(trial(&podman)?));
            trials.push(test.with_ignored_flag(there.is_err()));
        }
    }
    libtest_mimic::run(&args, trials).exit_code()
}
