//! `ci/cluster`: scenarios of a cluster under load, each in a process and in namespaces of its own.

use ftl_ci::cluster::{self, Scenario};
use ftl_lab::net;
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: ci/cluster [--apps N] [SCENARIO...]   kill two member drain daemons upgrade cut lost down emptied image secrets; all if none is named
       ci/cluster [--apps N] --one SCENARIO  one, in this process
FTVM_BIN names the ftvm under test.";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mut apps = cluster::APPS;
    if args.first().is_some_and(|a| a == "--apps") {
        let Some(n) = args.get(1).and_then(|n| n.parse().ok()) else {
            return usage();
        };
        apps = n;
        args.drain(..2);
    }
    if let [one, name] = &args[..]
        && one == "--one"
    {
        return match Scenario::from_name(name) {
            Some(s) => run(s, apps),
            None => usage(),
        };
    }
    let named: Option<Vec<Scenario>> = args.iter().map(|n| Scenario::from_name(n)).collect();
    let Some(mut all) = named else { return usage() };
    if all.is_empty() {
        all = Scenario::ALL.to_vec();
    }
    let Ok(me) = std::env::current_exe() else {
        return ExitCode::FAILURE;
    };
    let mut good = true;
    for s in all {
        println!("== {}", s.name());
        let status = Command::new(&me)
            .args(["--apps", &apps.to_string(), "--one", s.name()])
            .status();
        good &= status.is_ok_and(|s| s.success());
    }
    ExitCode::from(u8::from(!good))
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn run(s: Scenario, apps: usize) -> ExitCode {
    match net::enter().and_then(|()| cluster::trial(s, apps)) {
        Ok(r) if r.wrong.is_empty() => ExitCode::SUCCESS,
        Ok(r) => {
            println!("{}: {}", s.name(), r.wrong.join("; "));
            ExitCode::FAILURE
        }
        Err(why) => {
            println!("{}: not carried out: {why}", s.name());
            ExitCode::FAILURE
        }
    }
}
