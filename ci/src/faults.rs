//! The fault campaign: one trial is a server under `ftvm run --protect` with clients at work, one fault at a
//! moment that the seed chooses, and the judgement of what the clients and the wire saw.

mod kind;
mod ways;

use crate::place;
use ftl_lab::cluster::{Cluster, Side};
use ftl_lab::idle::{Idle, allow_descriptors};
use ftl_lab::load::Load;
use ftl_lab::long;
use ftl_lab::net::{CLIENT, IMAGE, Network};
use ftl_lab::pgbench::Pgbench;
use ftl_lab::speak::{Connection, Server, UPSTREAM_PORT};
use ftl_lab::watch::{self, Watch};
use ftl_lab::{Dice, now_ns};
use kind::End;
pub use kind::Fault;
use std::io;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};
pub use ways::Way;

/// SIGKILL, SIGSTOP, SIGCONT
const KILL: i32 = 9;
const STOP: i32 = 19;
const CONTINUE: i32 = 18;
/// Exit code of an image whose place another host has taken.
const EXIT_FENCED: i32 = 5;
const CONNECTIONS: usize = 8;
/// Connections of [`Fault::Crowd`], and the pause of each between two requests.
const CROWD: usize = 1000;
const CROWD_PAUSE: Duration = Duration::from_millis(500);
/// Connections of [`Fault::Idle`], and descriptors for them and for all else.
const IDLE: usize = 10_000;
const IDLE_DESCRIPTORS: u64 = IDLE as u64 + 1000;
/// Takeovers of [`Fault::Ten`].
const TEN: usize = 10;
/// MiB that [`Fault::Download`] fetches, keys that [`Fault::Pipe`] sets.
const DOWNLOAD: u64 = 1024;
const PIPED: u64 = 1_000_000;
/// The image of [`Fault::Disk`].
const PACKED: &str = "lab:1";
/// Bytes that [`Fault::Bulk`] writes to.
const BULK: usize = 100_000_000;
/// Pause of a client between two requests.
const PAUSE: Duration = Duration::from_millis(1);
/// How long pgbench works beside the clients: the fault comes within two seconds.
const PGBENCH_SECONDS: u64 = 6;
/// The copy of memory to the backup, an image that is to end.
const LONG: Duration = Duration::from_secs(60);

/// What a trial is made of; all of it follows from the seed, unless it was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The server.
    pub server: Server,
    /// The fault.
    pub fault: Fault,
    /// `--commit` of the image.
    pub commit: &'static str,
    /// Detection is the default's, even if the trial says nothing when the backup takes over by itself: on an idle machine it is not to.
    pub strict: bool,
}

/// What outputs may wait for: the product's way first, then the controls.
pub const COMMITS: [&str; 3] = ["predicted", "log-all", "snapshot"];

impl Plan {
    /// Of a seed.
    pub fn new(seed: u64, server: Option<Server>, fault: Option<Fault>) -> Plan {
        let mut dice = Dice(seed);
        let chosen = Fault::ALL[dice.below(Fault::ALL.len() as u64) as usize];
        Plan {
            seed,
            server: server.unwrap_or(Server::ALL[dice.below(2) as usize]),
            fault: fault.unwrap_or(chosen),
            commit: COMMITS[0],
            strict: false,
        }
        .possible()
    }

    /// One server alone can be told how much to write.
    fn possible(mut self) -> Plan {
        match self.fault {
            Fault::Bulk | Fault::Pipe | Fault::Disk | Fault::Rootfs => self.server = Server::Redis,
            Fault::Download | Fault::Files => self.server = Server::Nginx,
            Fault::Idle => self.server = Server::Memcached,
            _ => {}
        }
        self
    }
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Answers to clients.
    pub answers: u64,
    /// The backup answers now.
    pub moved: bool,
    /// Longest time without an answer on one connection, ms.
    pub gap_ms: u64,
    /// From the fault to the first answer after the silence, ms.
    pub silence_ms: u64,
    /// Frames of the old primary after the new one's first.
    pub late: usize,
    /// The primary thought that its backup was dead, and it was not: it costs protection, nothing else.
    pub accused: bool,
    /// What must not be.
    pub wrong: Vec<String>,
}

/// A server that the image is a client of; ended with the trial.
struct Upstream(std::process::Child);

impl Upstream {
    /// Starts it, and waits until it listens: an image that is ready before answers 502.
    fn start(mut program: Command) -> io::Result<Upstream> {
        let started = Upstream(program.spawn()?);
        let end = Instant::now() + LONG;
        while let Err(e) = TcpStream::connect((CLIENT, UPSTREAM_PORT)) {
            if Instant::now() > end {
                return Err(io::Error::new(
                    e.kind(),
                    format!("the upstream does not listen: {e}"),
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(started)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Carries a plan out. The caller is in namespaces of its own ([`ftl_lab::net::enter`]), used once.
pub fn trial(plan: Plan) -> Result<Report, String> {
    let text = |e: std::io::Error| e.to_string();
    let ftvm = std::path::absolute(place::ftvm()?).map_err(text)?;
    let home = std::env::temp_dir().join(format!("ftl-faults-{}", std::process::id()));
    let mut c = Cluster::new(Network::build()?, &ftvm, &home).map_err(text)?;
    let mut command = vec![plan.server.program().to_string()];
    let own = (plan.fault == Fault::Files).then(|| c.own_at());
    let arguments = plan.server.arguments_with(&c.files(), own.as_deref());
    command.extend(arguments.map_err(text)?);
    if plan.fault == Fault::Idle {
        allow_descriptors(IDLE_DESCRIPTORS).map_err(text)?;
        command.extend(["-c".to_string(), IDLE_DESCRIPTORS.to_string()]);
    }
    if plan.fault == Fault::Download {
        long::write_file(&c.files().join("large"), DOWNLOAD).map_err(text)?;
    }
    let upstream = plan.server.upstream(&c.files());
    let _upstream = upstream
        .map(|p| c.net.client.within(|| Upstream::start(p)))
        .transpose()
        .map_err(text)?;
    c.start_agent(Side::B).map_err(text)?;
    if plan.fault == Fault::Reset {
        c.relay().map_err(text)?;
    }
    if let Fault::Way(way) = plan.fault {
        c.use_etcd(way.relayed(), plan.seed).map_err(text)?;
    }
    c.options = format!("--commit {}", plan.commit);
    if plan.fault.needs_primary() && !plan.strict {
        c.options += " --detect-after 2s";
    }
    match plan.fault {
        Fault::Disk => {
            command[0] = place::on_path(&command[0])?;
            c.pack(PACKED, &command).map_err(text)?;
            c.start_packed(PACKED).map_err(text)?;
        }
        Fault::Rootfs => {
            command[0] = place::on_path(&command[0])?;
            c.start_root(&command).map_err(text)?;
        }
        Fault::Files => {
            let program = place::on_path(&command[0])?;
            for side in [Side::A, Side::B] {
                std::fs::copy(&program, c.own(side).join("server")).map_err(text)?;
            }
            std::fs::rename(c.files().join("page"), c.own(Side::A).join("page")).map_err(text)?;
            command[0] = c.own_at().join("server").display().to_string();
            c.start_image(&command).map_err(text)?;
        }
        _ => c.start_image(&command).map_err(text)?,
    }
    c.wait_ready(LONG).map_err(text)?;
    let mut dice = Dice(plan.seed ^ 0xfa17);
    let (connections, pause) = match plan.fault {
        Fault::Crowd => (CROWD, CROWD_PAUSE),
        _ => (CONNECTIONS, PAUSE),
    };
    let load = Load::start(plan.server, &c.net.client, connections, pause, dice.roll()).map_err(text)?;
    let client = &c.net.client;
    let pgbench = (plan.server == Server::Postgres)
        .then(|| Pgbench::start(client, CONNECTIONS, PGBENCH_SECONDS))
        .transpose()
        .map_err(text)?;
    // Before it listens a server refuses connections, with RST.
    let mut watch = Watch::start(&c.net).map_err(text)?;
    std::thread::sleep(Duration::from_millis(300 + dice.below(1500)));
    let mut wrong = Vec::new();
    let mut home = Side::A;
    // On a busy machine a backup may count as silent: what comes then would be the second fault.
    c.wait_protected(Side::A, LONG).map_err(text)?;
    for _ in 0..plan.fault.takeovers_before() {
        let to = home.other();
        let live = |c: &Cluster| c.log(to).matches("live after").count();
        let before = live(&c);
        if plan.fault == Fault::Files {
            wait_for_page(&c, to)?;
            // The standby has it open by then. Another version comes, as with an upgrade of its host.
            std::thread::sleep(Duration::from_secs(2));
            let new = c.own(to).join("new");
            std::fs::write(&new, "another version").map_err(text)?;
            std::fs::rename(new, c.own(to).join("server")).map_err(text)?;
        }
        c.signal(home, KILL);
        if matches!(plan.fault, Fault::Files | Fault::Rootfs) {
            c.lose_own().map_err(text)?;
        }
        if plan.fault.packed() {
            c.lose_disk(home).map_err(text)?;
        }
        let end = now_ns() + LONG.as_nanos() as u64;
        while live(&c) == before {
            if now_ns() > end {
                return Err(format!(
                    "no takeover\n--- {home:?}:\n{}--- {to:?}:\n{}",
                    c.log(home),
                    c.log(to)
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(dice.below(1000)));
        c.start_agent(home).map_err(text)?;
        c.protect_again(to)
            .map_err(|e| format!("{e}\n--- new primary:\n{}", c.log(to)))?;
        let one = std::mem::replace(&mut watch, Watch::start(&c.net).map_err(text)?);
        wrong.extend(watch::judge(&one.finish(), home).wrong);
        home = to;
        std::thread::sleep(Duration::from_millis(dice.below(1000)));
    }
    let idle = match plan.fault {
        Fault::Idle => {
            let begun = Instant::now();
            let idle = Idle::open(plan.server, &c.net.client, IDLE).map_err(text)?;
            eprintln!(
                "idle: {IDLE} connections are open after {} ms",
                begun.elapsed().as_millis()
            );
            tell_memory(&c);
            Some(idle)
        }
        _ => None,
    };
    let transfer = match plan.fault {
        Fault::Download => Some(long::download(&c.net.client, "large", DOWNLOAD)),
        Fault::Pipe => Some(long::pipe(&c.net.client, &c.files().join("commands"), PIPED)),
        _ => None,
    };
    let transfer = transfer.transpose().map_err(text)?;
    if transfer.is_some() {
        std::thread::sleep(Duration::from_millis(100 + dice.below(900)));
        c.wait_protected(home, LONG).map_err(text)?;
        if transfer
            .as_ref()
            .is_some_and(std::thread::JoinHandle::is_finished)
        {
            wrong.push("the transfer was over before the primary was killed".to_string());
        }
    }
    // On a busy machine the backup may have taken over already, and then these would pass or fail for that.
    let was_moved = plan.fault.takeovers_before() > 0;
    if plan.fault.needs_primary() && !was_moved && c.image_end(Duration::ZERO).is_some() {
        return Err(format!("the primary had ended before\n{}", c.log(Side::A)));
    }
    let (at, way) = happen(plan.fault, home, &mut c, &load, &mut dice, &mut wrong)
        .map_err(|e| format!("{e}\n--- A:\n{}--- B:\n{}", c.log(Side::A), c.log(Side::B)))?;
    if let Some(t) = transfer {
        match t.join() {
            Ok(done) => wrong.extend(done.err()),
            Err(_) => wrong.push("the transfer's thread ended".to_string()),
        }
    }
    std::thread::sleep(Duration::from_millis(2500));
    if let Some(idle) = idle {
        let begun = Instant::now();
        wrong.extend(idle.ask(&c.net.client).map_err(text)?);
        eprintln!(
            "idle: all have been asked after {} ms",
            begun.elapsed().as_millis()
        );
        for line in c.log(Side::B).lines().filter(|l| l.contains("live after")) {
            eprintln!("idle: {line}");
        }
        tell_memory(&c);
    }
    let verdict = load.finish(&c.net.client);
    if let Some(p) = pgbench {
        wrong.extend(p.finish(&c.net.client, LONG));
    }
    let story = watch::judge(&watch.finish(), home);
    let moved = story.taken_over;
    wrong.extend(verdict.wrong.iter().cloned());
    wrong.extend(story.wrong);
    wrong.extend(way.and_then(|w| w.judge(&verdict.times, moved)));
    match (plan.fault.end(), moved) {
        (End::Stays, true) => wrong.push("the backup answered".to_string()),
        (End::Moves, false) => wrong.push("the backup never answered".to_string()),
        _ => {}
    }
    let killed = match plan.fault {
        Fault::Way(way) => way.kills(),
        f => f.kills_only() || matches!(f, Fault::Arbiter | Fault::Reset),
    };
    let want = if plan.fault == Fault::Switchover {
        0
    } else {
        EXIT_FENCED
    };
    if moved && !killed {
        match c.image_end(LONG) {
            None => wrong.push("the old primary runs on".to_string()),
            Some(s) if s.code() != Some(want) => {
                wrong.push(format!(
                    "the old primary ended with {s}, not with exit code {want}"
                ));
            }
            Some(_) => {}
        }
    }
    // Each image says so when it begins, before it is protected; and it may be protected again by now.
    let log = c.log(Side::A);
    let later = log.split_once("ftvm: protected").map_or("", |(_, later)| later);
    if plan.fault.end() == End::Stays && !later.contains("UNPROTECTED") {
        wrong.push("the primary does not say that it is UNPROTECTED".to_string());
    }
    // On a machine that is busy the backup may count as silent before it has the new link.
    let kept = c.log(Side::B).contains("a new link to the primary")
        || c.log(Side::A).contains("silent for too long");
    if plan.fault == Fault::Reset && !kept {
        wrong.push("the standby was not given the new link".to_string());
    }
    if !wrong.is_empty() {
        eprintln!("--- A:\n{}--- B:\n{}", c.log(Side::A), c.log(Side::B));
    }
    let ms = |ns: u64| ns.div_ceil(1_000_000);
    Ok(Report {
        answers: verdict.answers,
        moved,
        gap_ms: verdict.gaps_ns.first().copied().map_or(0, ms),
        silence_ms: verdict.silence_after(at).map_or(0, ms),
        late: story.late,
        accused: !plan.fault.silences() && c.log(Side::A).contains("silent for too long"),
        wrong,
    })
}

/// Does it, and undoes what is only for a while. Returns when the fault that matters happened, ns, and what more there is to judge.
fn happen(
    fault: Fault,
    home: Side,
    c: &mut Cluster,
    load: &Load,
    dice: &mut Dice,
    wrong: &mut Vec<String>,
) -> io::Result<(u64, Option<ways::Story>)> {
    let mut at = now_ns();
    let mut pause = |least: u64, most: u64| {
        std::thread::sleep(Duration::from_millis(least + dice.below(most - least)));
    };
    match fault {
        Fault::Backup => c.signal(Side::B, KILL),
        Fault::Kill
        | Fault::Twice
        | Fault::Ten
        | Fault::Crowd
        | Fault::Idle
        | Fault::Download
        | Fault::Pipe => {
            c.signal(home, KILL);
        }
        Fault::Files => {
            wait_for_page(c, home.other()).map_err(std::io::Error::other)?;
            at = now_ns();
            c.signal(home, KILL);
        }
        Fault::Disk | Fault::Rootfs => {
            if !c.has_root(home.other()) {
                wrong.push("the backup has not got the image's root".to_string());
            }
            c.signal(home, KILL);
            c.lose_disk(home)?;
        }
        Fault::Orders => {
            to_a_standby(c, wrong)?;
            let mut given = Vec::new();
            let kill_at = 4 + dice.below(8);
            for n in 0..60 {
                if n == kill_at {
                    at = now_ns();
                    c.signal(Side::A, KILL);
                }
                given.push(c.begin_verb(
                    Side::B,
                    &ORDERS[n as usize % ORDERS.len()].replace("{n}", &n.to_string()),
                )?);
                std::thread::sleep(Duration::from_millis(dice.below(12)));
            }
            // Those behind the takeover are carried out, however late it comes.
            live_after(c, Side::B);
            for words in &ORDERS[..3] {
                given.push(c.begin_verb(Side::B, words)?);
            }
            let mut done = 0;
            for order in given {
                let (words, status, said) = order.end(LONG)?;
                match status.success() {
                    true => done += 1,
                    false if said.contains("is a standby") => {}
                    // Of a moment at which the image is between the two, too.
                    false => wrong.push(format!("ftvm {words}: {status}: {said}")),
                }
            }
            if done == 0 {
                wrong.push("no order was carried out after the takeover".to_string());
            }
        }
        Fault::Switchover => c.verb(Side::A, "switchover lab")?,
        Fault::Bulk => {
            c.net
                .client
                .within(|| Connection::open(Server::Redis, IMAGE, LONG)?.bulk(BULK))?;
            pause(500, 3000);
            c.wait_protected(Side::A, LONG)?;
            at = now_ns();
            c.signal(Side::A, KILL);
        }
        Fault::Freeze => {
            c.signal(Side::A, STOP);
            pause(500, 4000);
            // A backup that stood still itself has not counted that time.
            live_after(c, Side::B);
            c.signal(Side::A, CONTINUE);
        }
        Fault::Unplug => {
            c.arbiter(Side::A, false)?;
            c.net.link(false)?;
            c.net.cable(&c.net.a, false)?;
            pause(1500, 3000);
            c.net.cable(&c.net.a, true)?;
            c.net.link(true)?;
            c.arbiter(Side::A, true)?;
        }
        Fault::Arbiter => {
            both(c, false)?;
            pause(300, 2000);
            if c.image_end(Duration::ZERO).is_some() {
                wrong.push("the image ended when the arbiter was away".to_string());
            }
            both(c, true)?;
            pause(50, 500);
            c.wait_protected(Side::A, LONG)?;
            at = now_ns();
            c.signal(Side::A, KILL);
        }
        Fault::Link => {
            c.net.link(false)?;
            pause(1000, 3000);
            c.net.link(true)?;
        }
        Fault::Partition => {
            c.arbiter(Side::A, false)?;
            c.net.link(false)?;
            pause(1500, 3000);
            c.arbiter(Side::A, true)?;
            pause(300, 1000);
            c.net.link(true)?;
        }
        Fault::Mute => one_way(c, Side::A, dice, wrong)?,
        Fault::Deaf => one_way(c, Side::B, dice, wrong)?,
        Fault::MuteCut | Fault::DeafCut => {
            let unheard = match fault {
                Fault::MuteCut => Side::A,
                _ => Side::B,
            };
            c.arbiter(unheard, false)?;
            one_way(c, unheard, dice, wrong)?;
            c.arbiter(unheard, true)?;
        }
        Fault::Both => {
            both(c, false)?;
            c.net.link(false)?;
            pause(300, 2000);
            both(c, true)?;
            pause(300, 1000);
            c.net.link(true)?;
        }
        Fault::Late => {
            let held = c.hold_arbiter()?;
            c.net.link(false)?;
            pause(300, 2000);
            drop(held);
            pause(500, 1500);
            c.net.link(true)?;
        }
        Fault::Reset => {
            c.reset_link();
            pause(300, 2000);
            c.wait_protected(Side::A, LONG)?;
            at = now_ns();
            c.signal(Side::A, KILL);
        }
        Fault::Way(way) => {
            return way
                .happen(c, load, dice, wrong)
                .map(|story| (story.at, Some(story)));
        }
    }
    Ok((at, None))
}

/// The page has been sent to a host that has not got it.
fn wait_for_page(c: &Cluster, side: Side) -> Result<(), String> {
    let end = now_ns() + LONG.as_nanos() as u64;
    while c.copies(side) == 0 {
        if now_ns() > end {
            return Err(format!(
                "{side:?} has not got the page\n--- A:\n{}--- B:\n{}",
                c.log(Side::A),
                c.log(Side::B)
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until this side has taken over, if it does.
fn live_after(c: &Cluster, side: Side) {
    let end = now_ns() + LONG.as_nanos() as u64;
    while !c.log(side).contains("live after") && now_ns() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What this side sends on the link vanishes for a while.
fn one_way(c: &Cluster, unheard: Side, dice: &mut Dice, wrong: &mut Vec<String>) -> io::Result<()> {
    c.net.link_from(unheard, false)?;
    // The fault is what it says, or the trial shows nothing.
    for (side, passes) in [(unheard, false), (unheard.other(), true)] {
        if c.net.link_passes(side, passes)? != passes {
            wrong.push(format!("the link from {side:?} passes: {}", !passes));
        }
    }
    // Longer than detection takes.
    std::thread::sleep(Duration::from_millis(4000 + dice.below(2000)));
    c.net.link_from(unheard, true)?;
    if !c.net.link_passes(unheard, true)? {
        wrong.push(format!("the link from {unheard:?} was not healed"));
    }
    Ok(())
}

/// Orders that are carried out as soon as the image runs where they are given.
const ORDERS: [&str; 5] = [
    "exec lab /bin/true",
    "checkpoint lab --dry-run",
    "exec lab /bin/cat /proc/self/stat",
    // No server minds it. Its standby would, if it got it.
    "kill -s WINCH lab",
    "checkpoint lab --leave-running -o order.{n}.ftsnap",
];

/// A standby refuses all orders, and stays what it is.
fn to_a_standby(c: &mut Cluster, wrong: &mut Vec<String>) -> io::Result<()> {
    let more = [
        "switchover lab",
        "protect lab --backup 127.0.0.1:1",
        "record start lab -o order.log",
        "record stop lab",
        "migrate lab 127.0.0.1:1 --insecure",
        "kill -s USR1 lab",
    ];
    for words in ORDERS.into_iter().chain(more) {
        let (words, status, said) = c.begin_verb(Side::B, words)?.end(LONG)?;
        if status.success() || !said.contains("standby") {
            wrong.push(format!("ftvm {words} at the standby: {status}: {said}"));
        }
    }
    Ok(())
}

/// Prints what ftvm and the image use on each host.
fn tell_memory(c: &Cluster) {
    let mib = |side| c.memory(side) >> 20;
    eprintln!(
        "idle: memory of A {} MiB, of B {} MiB",
        mib(Side::A),
        mib(Side::B)
    );
}

fn both(c: &Cluster, reachable: bool) -> std::io::Result<()> {
    c.arbiter(Side::A, reachable)?;
    c.arbiter(Side::B, reachable)
}
