//! Live migration of a server with its own address, between network namespaces of this machine, while clients work: no
//! connection may be lost or reset, no answer wrong, and no two hosts may answer.
//!
//! Each trial is a process of its own, since it enters namespaces. Where they cannot be had, none is run, which is said.
//! `cargo test -p ftvm --test migrate_net [FILTER]`

use ftl_lab::cluster::{Cluster, Side};
use ftl_lab::load::Load;
use ftl_lab::net::{self, A_LINK, B_LINK, IMAGE, Network};
use ftl_lab::now_ns;
use ftl_lab::speak::{Connection, Server};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const CONNECTIONS: usize = 8;
const PAUSE: Duration = Duration::from_millis(1);
const AGENT: u16 = 7100;
/// Only what hangs takes as long.
const LONG: Duration = Duration::from_secs(60);

type Trial = (&'static str, fn(&mut Cluster) -> Result<(), String>);

const TRIALS: [Trial; 4] = [
    ("redis_moves_under_load", redis_moves_under_load),
    (
        "a_cut_link_leaves_redis_where_it_was",
        a_cut_link_leaves_redis_where_it_was,
    ),
    (
        "a_moved_image_can_be_written_and_moved_again",
        a_moved_image_can_be_written_and_moved_again,
    ),
    (
        "a_backup_comes_while_redis_works",
        a_backup_comes_while_redis_works,
    ),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [one, name] = args.as_slice()
        && one == "--one"
    {
        return match in_namespaces(name) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why}");
                ExitCode::FAILURE
            }
        };
    }
    let me = std::env::current_exe().expect("this program");
    let run = |name: &str| Command::new(&me).args(["--one", name]).output().expect("a trial");
    let probe = run("probe");
    if !probe.status.success() {
        println!("skipped: {}", String::from_utf8_lossy(&probe.stderr).trim());
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let mut failed = 0;
    for (name, _) in TRIALS {
        if !filters.is_empty() && !filters.iter().any(|f| name.contains(f.as_str())) {
            continue;
        }
        let out = run(name);
        let good = out.status.success();
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        if !good {
            failed += 1;
            println!(
                "{}{}",
                String::from_utf8_lossy(&out.stdout),
                String::from_utf8_lossy(&out.stderr)
            );
        }
    }
    println!("test result: {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

fn in_namespaces(name: &str) -> Result<(), String> {
    net::enter()?;
    if name == "probe" {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|d| d.join(Server::Redis.program()).is_file());
        return match found {
            true => Network::build().map(drop),
            false => Err("redis-server is not installed".to_string()),
        };
    }
    let (_, trial) = TRIALS.iter().find(|(n, _)| *n == name).ok_or("no such trial")?;
    let home = std::env::temp_dir().join(format!("ftl-migrate-{}", std::process::id()));
    let ftvm = Path::new(env!("CARGO_BIN_EXE_ftvm"));
    let mut c = Cluster::new(Network::build()?, ftvm, &home).map_err(text)?;
    trial(&mut c).map_err(|why| format!("{why}\n--- A:\n{}--- B:\n{}", c.log(Side::A), c.log(Side::B)))
}

fn text(e: std::io::Error) -> String {
    e.to_string()
}

/// Redis on A with clients at work, agents on both.
fn at_work(c: &mut Cluster) -> Result<Load, String> {
    let mut command = vec![Server::Redis.program().to_string()];
    command.extend(Server::Redis.arguments(&c.files()).map_err(text)?);
    c.start_agent(Side::B).map_err(text)?;
    c.start_alone(&command).map_err(text)?;
    let load = Load::start(Server::Redis, &c.net.client, CONNECTIONS, PAUSE, 7).map_err(text)?;
    std::thread::sleep(Duration::from_millis(500));
    Ok(load)
}

fn migrate(c: &mut Cluster, from: Side) -> Result<(), String> {
    let to = match from {
        Side::A => B_LINK,
        Side::B => A_LINK,
    };
    c.verb(from, &format!("migrate lab {to}:{AGENT} --insecure"))
        .map_err(text)
}

/// All went well, and answers came after `at`.
fn good(load: Load, c: &Cluster, at: u64) -> Result<(), String> {
    std::thread::sleep(Duration::from_millis(1500));
    // A takeover takes its time on a busy machine.
    let before = load.answers.load(Relaxed);
    let end = now_ns() + LONG.as_nanos() as u64;
    while load.answers.load(Relaxed) == before && now_ns() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let v = load.finish(&c.net.client);
    let after = v.times.iter().filter(|t| **t > at).count();
    if !v.good() || after == 0 {
        return Err(format!(
            "{} answers, {after} after the last move; {} lost, {} reset: {:?}",
            v.answers, v.lost, v.reset, v.wrong
        ));
    }
    Ok(())
}

fn redis_moves_under_load(c: &mut Cluster) -> Result<(), String> {
    let load = at_work(c)?;
    let mut at = Side::A;
    for n in 0..5 {
        migrate(c, at)?;
        if n == 0 {
            // The agent of the first host: its image has gone.
            c.image_end(LONG).ok_or("the image runs on at A")?;
            c.start_agent(Side::A).map_err(text)?;
        }
        at = if at == Side::A { Side::B } else { Side::A };
        std::thread::sleep(Duration::from_millis(400));
    }
    good(load, c, now_ns())
}

fn a_cut_link_leaves_redis_where_it_was(c: &mut Cluster) -> Result<(), String> {
    let load = at_work(c)?;
    c.net.link(false).map_err(text)?;
    match migrate(c, Side::A) {
        Ok(()) => return Err("it moved over a link that is cut".to_string()),
        Err(why) if why.contains("goes on here") => {}
        Err(why) => return Err(why),
    }
    let at = now_ns();
    good(load, c, at)?;
    c.net.link(true).map_err(text)?;
    let load = Load::start(Server::Redis, &c.net.client, 2, PAUSE, 8).map_err(text)?;
    migrate(c, Side::A)?;
    good(load, c, now_ns())
}

/// A whole snapshot of 100 MB goes to a new backup in rounds, under load; then the backup must be able to go on from it.
fn a_backup_comes_while_redis_works(c: &mut Cluster) -> Result<(), String> {
    let mut command = vec![Server::Redis.program().to_string()];
    command.extend(Server::Redis.arguments(&c.files()).map_err(text)?);
    c.start_agent(Side::B).map_err(text)?;
    // It is not about detection, and a busy machine stands still now and then.
    c.options = "--detect-after 5s".to_string();
    c.start_image(&command).map_err(text)?;
    c.wait_ready(LONG).map_err(text)?;
    let load = Load::start(Server::Redis, &c.net.client, CONNECTIONS, PAUSE, 9).map_err(text)?;
    c.net
        .client
        .within(|| Connection::open(Server::Redis, IMAGE, LONG)?.bulk(100_000_000))
        .map_err(text)?;
    let alone = |c: &Cluster| c.log(Side::A).matches("ftvm: UNPROTECTED").count();
    let before = alone(c);
    c.signal(Side::B, libc::SIGKILL);
    let end = now_ns() + LONG.as_nanos() as u64;
    while alone(c) == before {
        if now_ns() > end {
            return Err("A does not say that it is unprotected".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    c.start_agent(Side::B).map_err(text)?;
    c.wait_protected(Side::A, LONG).map_err(text)?;
    c.verb(Side::A, "status lab").map_err(text)?;
    std::thread::sleep(Duration::from_millis(300));
    c.wait_protected(Side::A, LONG).map_err(text)?;
    c.signal(Side::A, libc::SIGKILL);
    good(load, c, now_ns())
}

fn a_moved_image_can_be_written_and_moved_again(c: &mut Cluster) -> Result<(), String> {
    let load = at_work(c)?;
    migrate(c, Side::A)?;
    let file = c.files().join("moved.ftsnap");
    let file = file.display();
    c.verb(
        Side::B,
        &format!("checkpoint lab --leave-running -o {file} --volumes share"),
    )
    .map_err(text)?;
    c.verb(Side::B, &format!("snapshot verify {file}"))
        .map_err(text)?;
    c.image_end(LONG).ok_or("the image runs on at A")?;
    c.start_agent(Side::A).map_err(text)?;
    migrate(c, Side::B)?;
    good(load, c, now_ns())
}
