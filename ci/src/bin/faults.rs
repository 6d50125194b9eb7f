//! `ci/faults`: N trials of the fault campaign, each in a process and in namespaces of its own, and a table.

use ftl_ci::faults::{self, Fault, Plan};
use ftl_lab::net;
use ftl_lab::speak::Server;
use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};

const USAGE: &str = "\
usage: ci/faults [--n N] [--seed S] [--server memcached|redis|nginx|node|sqlite|nginx-workers|postgres|nginx-proxy|websocket] [--fault NAME]
                 [--commit predicted|log-all|snapshot] [--strict]
       ci/faults --one SEED ...   one trial, in this process
       ci/faults --probe          exit 77 and a line if this host cannot do it
       --strict: detection is the default's in all trials, for an idle machine
faults: kill unplug freeze backup arbiter link partition both late reset twice switchover bulk ten crowd download pipe disk orders
        mute deaf mute-cut deaf-cut idle unasked unanswered unasked-backup unanswered-backup unasked-alone unanswered-alone
        unasked-kill unanswered-kill swaps-unanswered swaps-unanswered-kill slow stale (these: etcd is the arbiter)
FTVM_BIN names the ftvm under test.";
/// This host cannot do it.
const EXIT_SKIP: u8 = 77;

#[derive(Default)]
struct Options {
    n: u64,
    seed: u64,
    server: Option<Server>,
    fault: Option<Fault>,
    one: Option<u64>,
    commit: Option<&'static str>,
    probe: bool,
    strict: bool,
}

fn options() -> Option<Options> {
    let mut o = Options {
        n: 20,
        seed: u64::from(std::process::id()) << 16,
        ..Options::default()
    };
    let mut args = std::env::args().skip(1);
    while let Some(a) = args.next() {
        if a == "--probe" {
            o.probe = true;
            continue;
        }
        if a == "--strict" {
            o.strict = true;
            continue;
        }
        let v = args.next()?;
        match a.as_str() {
            "--n" => o.n = v.parse().ok()?,
            "--seed" => o.seed = v.parse().ok()?,
            "--commit" => o.commit = Some(faults::COMMITS.into_iter().find(|c| *c == v)?),
            "--one" => o.one = Some(v.parse().ok()?),
            "--server" => o.server = Some(Server::from_name(&v)?),
            "--fault" => o.fault = Some(Fault::from_name(&v)?),
            _ => return None,
        }
    }
    Some(o)
}

fn main() -> ExitCode {
    let Some(o) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if o.probe {
        return match net::enter().and_then(|()| net::Network::build()) {
            Ok(_) => ExitCode::SUCCESS,
            Err(why) => {
                println!("{why}");
                ExitCode::from(EXIT_SKIP)
            }
        };
    }
    match o.one {
        Some(seed) => {
            let plan = Plan::new(seed, o.server, o.fault);
            one(Plan {
                commit: o.commit.unwrap_or(plan.commit),
                strict: o.strict,
                ..plan
            })
        }
        None => campaign(&o),
    }
}

/// One trial: a line for the campaign, tabs between its fields.
fn one(plan: Plan) -> ExitCode {
    let done = net::enter().and_then(|()| faults::trial(plan));
    let (fault, server) = (plan.fault.name(), plan.server.name());
    match done {
        Ok(r) => {
            println!(
                "{fault}\t{server}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
                r.answers,
                r.moved,
                r.silence_ms,
                r.gap_ms,
                r.late,
                r.accused,
                r.wrong.join("; ")
            );
            ExitCode::from(u8::from(!r.wrong.is_empty()))
        }
        Err(why) => {
            println!(
                "{fault}\t{server}\t0\tfalse\t0\t0\t0\tfalse\tnot carried out: {}",
                why.replace(['\n', '\t'], " | ")
            );
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Row {
    trials: u64,
    bad: u64,
    moved: u64,
    late: u64,
    accused: u64,
    answers: u64,
    silences: Vec<u64>,
    gaps: Vec<u64>,
}

fn campaign(o: &Options) -> ExitCode {
    let Ok(me) = std::env::current_exe() else {
        return ExitCode::FAILURE;
    };
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut bad = 0;
    for seed in o.seed..o.seed + o.n {
        let mut c = Command::new(&me);
        c.args(["--one", &seed.to_string()]).stderr(Stdio::inherit());
        if let Some(s) = o.server {
            c.args(["--server", s.name()]);
        }
        if let Some(f) = o.fault {
            c.args(["--fault", f.name()]);
        }
        if let Some(how) = o.commit {
            c.args(["--commit", how]);
        }
        if o.strict {
            c.arg("--strict");
        }
        let out = c
            .output()
            .map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        let line = out.unwrap_or_else(|e| e.to_string());
        let f: Vec<&str> = line.trim_end_matches('\n').split('\t').collect();
        let number = |i: usize| f.get(i).and_then(|t| t.parse().ok()).unwrap_or(0u64);
        let wrong = f.get(8).copied().unwrap_or("no result");
        let row = rows.entry(f[0].to_string()).or_default();
        row.trials += 1;
        row.answers += number(2);
        row.moved += u64::from(f.get(3) == Some(&"true"));
        row.silences.push(number(4));
        row.gaps.push(number(5));
        row.late += number(6);
        row.accused += u64::from(f.get(7) == Some(&"true"));
        if !wrong.is_empty() {
            row.bad += 1;
            bad += 1;
            println!("seed {seed} {} {}: {wrong}", f[0], f.get(1).unwrap_or(&""));
        }
    }
    println!(
        "fault                 trials  bad  moved  silence p50/max ms     gap p50/max ms   late accused  answers"
    );
    for (name, row) in &mut rows {
        let spread = |v: &mut Vec<u64>| {
            v.sort_unstable();
            format!("{:>8} /{:>7}", v[v.len() / 2], v[v.len() - 1])
        };
        let (silence, gap) = (spread(&mut row.silences), spread(&mut row.gaps));
        println!(
            "{name:<21} {:>6} {:>4} {:>6}  {silence:>19} {gap:>18} {:>6} {:>7} {:>8}",
            row.trials, row.bad, row.moved, row.late, row.accused, row.answers
        );
    }
    println!("{} trials, {bad} bad; first seed {}", o.n, o.seed);
    ExitCode::from(u8::from(bad > 0))
}
