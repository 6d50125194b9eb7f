//! A cluster of five nodes under load, with an etcd of three members: what befalls it, and the judgement of what the clients saw.
//! Every scenario ends with every app protected; the times are printed and decide nothing.

mod secrets;
mod upgrade;

use crate::place;
use ftl_lab::fleet::{App, Fleet, REGISTRY, until};
use ftl_lab::load::Load;
use ftl_lab::net::Host;
use ftl_lab::now_ns;
use ftl_lab::speak::{Connection, Server};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::time::Duration;

const NODES: usize = 5;
const KILL: i32 = 9;
const TERM: i32 = 15;
/// Connections to each app, and the pause of each between two requests: two cores carry all of it.
const CONNECTIONS: usize = 4;
const PAUSE: Duration = Duration::from_millis(10);
/// Apps if no number is given.
pub const APPS: usize = 3;
/// The longest that anything here may take before it counts as stuck.
const LONG: Duration = Duration::from_secs(90);
/// How long the cluster is cut in two.
const CUT: Duration = Duration::from_secs(6);
/// How long clients work before and after.
const WHILE: Duration = Duration::from_secs(2);

/// What befalls it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// A node that runs an app dies.
    Kill,
    /// A node that runs an app dies, and when all is protected again the node that has gone on with it. Both come back, and the
    /// third one is drained.
    Two,
    /// A member of the etcd dies, then a node.
    Member,
    /// Every node is drained in turn and takes apps again.
    Drain,
    /// The daemon of every node ends in turn, asked to or killed, and is started again.
    Daemons,
    /// The daemon of every node is replaced in turn by one of another build of ftvm, while images run on, protected; a node dies; then
    /// the apps are started anew with it.
    Upgrade,
    /// Two nodes and a member of the etcd are cut off from the others and from the clients, for a while.
    Cut,
    /// Primary and backup of an app die at once; a program that is not there; a second node of a name.
    Lost,
    /// An app is changed, then all are taken down.
    Down,
    /// The etcd loses all it had, and a daemon is started again.
    Emptied,
    /// Replicas of an image of a registry, with an etcd that speaks TLS: a node dies while the registry is dead, then the replicas are
    /// upgraded one by one.
    Image,
    /// An image with secrets and hooks: it starts where its secrets are, and has both at its next primary; they are on no disk.
    Secrets,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 12] = [
        Scenario::Kill,
        Scenario::Two,
        Scenario::Member,
        Scenario::Drain,
        Scenario::Daemons,
        Scenario::Upgrade,
        Scenario::Cut,
        Scenario::Lost,
        Scenario::Down,
        Scenario::Emptied,
        Scenario::Image,
        Scenario::Secrets,
    ];

    /// As on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Kill => "kill",
            Scenario::Two => "two",
            Scenario::Member => "member",
            Scenario::Drain => "drain",
            Scenario::Daemons => "daemons",
            Scenario::Upgrade => "upgrade",
            Scenario::Cut => "cut",
            Scenario::Lost => "lost",
            Scenario::Down => "down",
            Scenario::Emptied => "emptied",
            Scenario::Image => "image",
            Scenario::Secrets => "secrets",
        }
    }

    /// By name.
    pub fn from_name(name: &str) -> Option<Scenario> {
        Scenario::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// What came of it: lines for people, and what must not be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// What happened, with times.
    pub story: Vec<String>,
    /// What must not be.
    pub wrong: Vec<String>,
}

fn text(e: std::io::Error) -> String {
    e.to_string()
}

struct Trial {
    fleet: Fleet,
    apps: Vec<App>,
    began: u64,
    report: Report,
}

/// Carries a scenario out. The caller is in namespaces of its own ([`ftl_lab::net::enter`]), used once.
pub fn trial(scenario: Scenario, apps: usize) -> Result<Report, String> {
    let ftvm = std::path::absolute(place::ftvm()?).map_err(text)?;
    let home = std::env::temp_dir().join(format!("ftl-cluster-{}", std::process::id()));
    let fleet = Fleet::new(NODES, &ftvm, &home, scenario == Scenario::Image).map_err(text)?;
    let servers = [
        ("cache", Server::Memcached),
        ("kv", Server::Redis),
        ("count", Server::Sqlite),
    ];
    let app = |i: usize| {
        let (name, server) = servers[i % servers.len()];
        App {
            name: format!("{name}{}", i / servers.len()),
            server,
            ip: Ipv4Addr::new(10, 77, 0, 101 + i as u8),
        }
    };
    let mut t = Trial {
        fleet,
        apps: (0..apps).map(app).collect(),
        began: now_ns(),
        report: Report::default(),
    };
    match t.carry_out(scenario) {
        Ok(()) => {}
        Err(why) => t.report.wrong.push(why),
    }
    if !t.report.wrong.is_empty() {
        let seen = t
            .fleet
            .verb("ps --cluster")
            .map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        eprintln!("{}\n{}", seen.unwrap_or_default(), t.fleet.logs());
    }
    Ok(t.report)
}

impl Trial {
    fn say(&mut self, line: &str) {
        let ms = (now_ns() - self.began) / 1_000_000;
        let line = format!("{:>3}.{:01} s  {line}", ms / 1000, ms % 1000 / 100);
        eprintln!("{line}");
        self.report.story.push(line);
    }

    fn carry_out(&mut self, scenario: Scenario) -> Result<(), String> {
        for i in 0..NODES {
            self.fleet.join(i).map_err(text)?;
        }
        self.wait("five nodes", |v| {
            v["nodes"].as_array().is_some_and(|n| n.len() == NODES)
        })?;
        if scenario == Scenario::Image {
            return self.image();
        }
        if scenario == Scenario::Secrets {
            return self.secrets();
        }
        for app in self.apps.clone() {
            let file = self.fleet.app_file(&app, &[]).map_err(text)?;
            self.fleet
                .done(&format!("up --wait 0 {}", file.display()))
                .map_err(text)?;
        }
        self.protected("they are up")?;
        let mut loads = Vec::new();
        for app in &self.apps {
            let load = Load::start_at(app.server, app.ip, &self.fleet.client, CONNECTIONS, PAUSE, 7);
            loads.push((app.name.clone(), load.map_err(|e| format!("{}: {e}", app.name))?));
        }
        std::thread::sleep(WHILE);
        self.protected("under load")?;
        let mut before = now_ns();
        match scenario {
            Scenario::Kill => {
                self.top()?;
                before = now_ns();
                self.kill(0)?;
            }
            Scenario::Two => {
                let first = self.kill(0)?;
                std::thread::sleep(WHILE);
                before = now_ns();
                let second = self.kill(0)?;
                self.fleet.join(first).map_err(text)?;
                self.fleet.join(second).map_err(text)?;
                self.wait("both are back", |v| {
                    v["nodes"].as_array().is_some_and(|n| n.len() == NODES)
                })?;
                let third = self.primary(0)?;
                self.drain(third)?;
            }
            Scenario::Member => {
                self.fleet.kill_member(0);
                self.say("member e1 of the etcd dies");
                std::thread::sleep(WHILE);
                self.protected("with two members")?;
                before = now_ns();
                self.kill(0)?;
                self.fleet.start_member(0).map_err(text)?;
            }
            Scenario::Drain => {
                for i in 0..NODES {
                    self.drain(i)?;
                }
            }
            Scenario::Daemons => self.daemons()?,
            Scenario::Upgrade => {
                self.upgrade()?;
                before = now_ns();
            }
            Scenario::Cut => {
                before = now_ns();
                self.cut()?;
            }
            Scenario::Down | Scenario::Lost | Scenario::Emptied | Scenario::Image | Scenario::Secrets => {}
        }
        std::thread::sleep(WHILE);
        self.judge(loads, before);
        if scenario == Scenario::Upgrade {
            self.renew()?;
        }
        self.protected("in the end")?;
        match scenario {
            Scenario::Lost => {
                self.lost()?;
                self.refused()
            }
            Scenario::Down => {
                self.change()?;
                self.down()
            }
            Scenario::Emptied => self.emptied(),
            _ => Ok(()),
        }
    }

    /// `ftvm top` shows each node, and what the apps do under load.
    fn top(&mut self) -> Result<(), String> {
        // Nodes begin to tell when somebody watches, and rates need two tellings of each: a busy host takes its time.
        let mut shown = String::new();
        for looks in [2, 8, 32] {
            let words = format!("top --cluster --json --delay 2s -n {looks}");
            shown = self.fleet.done(&words).map_err(text)?;
            let last = shown.lines().last().unwrap_or_default();
            let v: Value = serde_json::from_str(last).map_err(|e| format!("top: {e}: {shown}"))?;
            if let Some(rate) = self.all_at_work(&v) {
                self.say(&format!("top: {rate:.0} outputs a second"));
                let again = self.fleet.done("top --cluster -n 1 --delay 10ms").map_err(text)?;
                return match again.contains("WAIT-MAX") && again.contains("PROTECTED") {
                    true => Ok(()),
                    false => Err(format!("top shows {again}")),
                };
            }
        }
        Err(format!(
            "top does not show every node and every app at work: {shown}"
        ))
    }

    /// Outputs of all apps in a second, if a look of `ftvm top` shows every node and every app at work.
    fn all_at_work(&self, v: &Value) -> Option<f64> {
        let list = |key: &str| v[key].as_array().cloned().unwrap_or_default();
        let (nodes, apps) = (list("nodes"), list("apps"));
        let works = |a: &Value| {
            let positive = |f: &str| a[f].as_f64() > Some(0.0);
            positive("outputs_per_s")
                && positive("log_bytes_per_s")
                && positive("rss")
                && a["cpu_percent"].is_f64()
        };
        let all = nodes.len() == NODES
            && nodes.iter().all(|n| n["cpu_percent"].is_f64())
            && apps.len() == self.apps.len()
            && apps.iter().all(works);
        all.then(|| apps.iter().filter_map(|a| a["outputs_per_s"].as_f64()).sum())
    }

    /// What the clients saw. `before`: when the last fault happened.
    fn judge(&mut self, loads: Vec<(String, Load)>, before: u64) {
        for (name, load) in loads {
            let v = load.finish(&self.fleet.client);
            let ms = |ns: u64| ns.div_ceil(1_000_000);
            self.say(&format!(
                "{name}: {} answers, longest gap of a connection {} ms, first answer {} ms after the last fault",
                v.answers,
                v.gaps_ns.first().copied().map_or(0, ms),
                v.silence_after(before).map_or(0, ms),
            ));
            if v.answers == 0 {
                self.report.wrong.push(format!("{name}: no answers"));
            }
            self.report
                .wrong
                .extend(v.wrong.iter().map(|w| format!("{name}: {w}")));
        }
    }

    /// Replicas of an image.
    fn image(&mut self) -> Result<(), String> {
        let mut command = vec![place::on_path(Server::Redis.program())?];
        command.extend(Server::Redis.arguments(&self.fleet.files()).map_err(text)?);
        self.fleet.start_registry().map_err(text)?;
        self.fleet.push("kv:1", &command).map_err(text)?;
        command.extend(["--maxclients", "500"].map(str::to_string));
        self.fleet.push("kv:2", &command).map_err(text)?;
        let app = App {
            name: "kvs".to_string(),
            server: Server::Redis,
            ip: Ipv4Addr::new(10, 77, 0, 150),
        };
        let up = format!("up --insecure-registry {REGISTRY}");
        let (file, replicas) = self.fleet.replicas_file(&app, "kv:1", 2).map_err(text)?;
        self.apps = replicas;
        self.fleet
            .done(&format!("{up} {}", file.display()))
            .map_err(text)?;
        self.protected("two replicas of an image are up")?;
        let image = |v: &Value, n: usize| Trial::app(v, &format!("kvs-{n}"))["oci"].clone();
        let first = image(&self.ps().ok_or("no cluster")?, 1);
        let mut loads = Vec::new();
        for app in &self.apps {
            let load = Load::start_at(app.server, app.ip, &self.fleet.client, CONNECTIONS, PAUSE, 7);
            loads.push((app.name.clone(), load.map_err(|e| format!("{}: {e}", app.name))?));
        }
        std::thread::sleep(WHILE);
        // What a new backup has not got of the image comes from the primary.
        self.fleet.kill_registry();
        let before = now_ns();
        let dead = self.kill(0)?;
        std::thread::sleep(WHILE);
        self.judge(loads, before);
        self.protected("without a registry")?;
        self.fleet.join(dead).map_err(text)?;
        self.fleet.start_registry().map_err(text)?;
        // An upgrade: one after the other.
        let (file, _) = self.fleet.replicas_file(&app, "kv:2", 2).map_err(text)?;
        let mut together = 0;
        let done = std::thread::scope(|s| {
            let verb = s.spawn(|| self.fleet.done(&format!("{up} {}", file.display())));
            while !verb.is_finished() {
                let protected = self.ps().map(|v| {
                    let all = self
                        .apps
                        .iter()
                        .map(|a| Trial::app(&v, &a.name)["state"] == "PROTECTED");
                    all.filter(|p| *p).count()
                });
                together += usize::from(protected == Some(0));
                std::thread::sleep(Duration::from_millis(100));
            }
            verb.join().map_err(|_| "the verb's thread has ended".to_string())
        });
        done?.map_err(text)?;
        if together > 0 {
            self.report
                .wrong
                .push("both replicas were away at once".to_string());
        }
        let v = self.ps().ok_or("no cluster")?;
        if [image(&v, 1), image(&v, 2)]
            .iter()
            .any(|i| i.is_null() || *i == first)
        {
            return Err(format!(
                "after an upgrade the replicas run {} and {}",
                image(&v, 1),
                image(&v, 2)
            ));
        }
        self.protected("upgraded one after the other")?;
        // One of them is to go.
        let (file, _) = self.fleet.replicas_file(&app, "kv:2", 1).map_err(text)?;
        self.fleet
            .done(&format!("{up} {}", file.display()))
            .map_err(text)?;
        self.wait("one replica is left", |v| {
            v["apps"].as_array().is_some_and(|a| a.len() == 1)
        })?;
        self.fleet.done("down kvs").map_err(text)?;
        self.wait("no apps", |v| v["apps"].as_array().is_some_and(Vec::is_empty))
    }

    /// The cluster as `ps` shows it.
    fn ps(&self) -> Option<Value> {
        let text = self.fleet.done("ps --cluster --json").ok()?;
        serde_json::from_str(&text).ok()
    }

    fn app(v: &Value, name: &str) -> Value {
        let all = v["apps"].as_array().into_iter().flatten();
        all.clone()
            .find(|a| a["name"] == name)
            .cloned()
            .unwrap_or(Value::Null)
    }

    fn wait(&mut self, what: &str, mut so: impl FnMut(&Value) -> bool) -> Result<(), String> {
        if until(LONG, || self.ps().is_some_and(|v| so(&v))) {
            self.say(what);
            return Ok(());
        }
        Err(format!("not in {} s: {what}", LONG.as_secs()))
    }

    /// Waits until every app is protected.
    fn protected(&mut self, when: &str) -> Result<(), String> {
        let names: Vec<String> = self.apps.iter().map(|a| a.name.clone()).collect();
        self.wait(&format!("{when}: every app is protected"), |v| {
            names.iter().all(|n| Trial::app(v, n)["state"] == "PROTECTED")
        })
    }

    /// Number of the node that runs an app.
    fn primary(&self, app: usize) -> Result<usize, String> {
        let name = &self.apps[app].name;
        let v = self.ps().ok_or("no cluster")?;
        let node = Trial::app(&v, name)["primary"]
            .as_str()
            .unwrap_or_default()
            .to_string();
        let number = self.fleet.number(&node);
        number.ok_or_else(|| format!("{name} runs at {node:?}"))
    }

    /// Waits until every app is protected by other nodes than this one.
    fn protected_without(&mut self, node: &str) -> Result<(), String> {
        let names: Vec<String> = self.apps.iter().map(|a| a.name.clone()).collect();
        self.wait(&format!("every app is protected without {node}"), |v| {
            names
                .iter()
                .map(|n| Trial::app(v, n))
                .all(|a| a["state"] == "PROTECTED" && a["primary"] != node && a["backup"] != node)
        })
    }

    /// The node that runs an app dies. Returns its number.
    fn kill(&mut self, app: usize) -> Result<usize, String> {
        self.protected("before a death")?;
        let i = self.primary(app)?;
        let node = self.fleet.nodes[i].name.clone();
        self.fleet.kill(i).map_err(text)?;
        self.say(&format!("node {node} dies, which ran {}", self.apps[app].name));
        self.protected_without(&node)?;
        Ok(i)
    }

    fn drain(&mut self, i: usize) -> Result<(), String> {
        let name = self.fleet.nodes[i].name.clone();
        self.fleet
            .done(&format!("drain --wait 90 {name}"))
            .map_err(text)?;
        self.say(&format!("{name} is drained"));
        if let Some(what) = self.fleet.nodes[i].has_images().map_err(text)? {
            return Err(format!("{name} is drained and still has {what}"));
        }
        self.protected_without(&name)?;
        self.fleet.done(&format!("node uncordon {name}")).map_err(text)?;
        Ok(())
    }

    fn daemons(&mut self) -> Result<(), String> {
        for i in 0..NODES {
            let name = self.fleet.nodes[i].name.clone();
            let before = self.ps().ok_or("no cluster")?;
            let signal = [TERM, KILL][i % 2];
            self.fleet.end_daemon(i, signal).map_err(text)?;
            self.fleet.join(i).map_err(text)?;
            let all: Vec<Value> = self.apps.iter().map(|a| Trial::app(&before, &a.name)).collect();
            self.wait(&format!("{name} was restarted, every app is protected"), |v| {
                let again = all.iter().all(|b| {
                    let a = Trial::app(v, b["name"].as_str().unwrap_or_default());
                    // A backup that was there had to be attached anew; an image there is the same.
                    let epochs = a["epoch"].as_u64() > b["epoch"].as_u64();
                    a["state"] == "PROTECTED"
                        && epochs == (b["backup"] == name.as_str())
                        && a["image"] == b["image"]
                });
                again && v["nodes"].as_array().is_some_and(|n| n.len() == NODES)
            })?;
        }
        Ok(())
    }

    /// The minority has the first app's primary and backup, and one member of the etcd: nobody can tell there who is
    /// primary, and the pair needs nobody to.
    fn cut(&mut self) -> Result<(), String> {
        let v = self.ps().ok_or("no cluster")?;
        let backup = Trial::app(&v, &self.apps[0].name)["backup"].clone();
        let backup = backup.as_str().and_then(|n| self.fleet.number(n));
        let minority = [self.primary(0)?, backup.ok_or("no backup")?];
        let names = minority.map(|i| self.fleet.nodes[i].name.clone());
        self.fleet.cut(&minority, &[0]).map_err(text)?;
        self.say(&format!(
            "{} and a member of the etcd are cut off",
            names.join(", ")
        ));
        std::thread::sleep(CUT);
        let v = self.ps().ok_or("the majority does not answer")?;
        for a in v["apps"].as_array().into_iter().flatten() {
            self.say(&format!(
                "{}: {} at {}, {}",
                a["name"], a["state"], a["primary"], a["backup"]
            ));
        }
        self.fleet.heal().map_err(text)?;
        self.say("all are together again");
        self.wait("five nodes", |v| {
            v["nodes"].as_array().is_some_and(|n| n.len() == NODES)
        })?;
        self.protected("together")
    }

    /// The same file changes nothing; another program is another image at the same address.
    fn change(&mut self) -> Result<(), String> {
        let app = self.apps[0].clone();
        let image = |t: &Trial| t.ps().map(|v| Trial::app(&v, &app.name)["image"].clone());
        let before = image(self);
        let file = self.fleet.app_file(&app, &[]).map_err(text)?;
        self.fleet.done(&format!("up {}", file.display())).map_err(text)?;
        if before.is_none() || image(self) != before {
            return Err(format!(
                "{}: up with the same file started another image",
                app.name
            ));
        }
        let file = self.fleet.app_file(&app, &["-c", "100"]).map_err(text)?;
        self.fleet.done(&format!("up {}", file.display())).map_err(text)?;
        self.say(&format!("{} was changed and runs again", app.name));
        let answers = |host: &Host| host.within(|| Connection::open(app.server, app.ip, LONG)?.get("own1"));
        match answers(&self.fleet.client) {
            Ok(0) => Ok(()),
            Ok(n) => Err(format!("{}: the new image has {n:x} of the old one", app.name)),
            Err(e) => Err(format!("{}: the new image: {e}", app.name)),
        }
    }

    /// A verb that must fail and say why.
    fn fails(&self, words: &str, says: &str) -> Result<(), String> {
        let out = self.fleet.verb(words).map_err(text)?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        match out.status.success() || !said.contains(says) {
            true => Err(format!("ftvm {words}: {}, and not {says:?}: {said}", out.status)),
            false => Ok(()),
        }
    }

    /// What nobody has any more is not started anew before it is asked for.
    fn lost(&mut self) -> Result<(), String> {
        let app = self.apps[0].clone();
        let before = Trial::app(&self.ps().ok_or("no cluster")?, &app.name);
        let held = ["primary", "backup"].map(|r| before[r].as_str().unwrap_or_default().to_string());
        let held = held.map(|n| self.fleet.number(&n));
        let [Some(p), Some(b)] = held else {
            return Err(format!("{}: {before}", app.name));
        };
        for i in [p, b] {
            self.fleet.nodes[i].host.cable(false).map_err(text)?;
        }
        for i in [p, b] {
            self.fleet.kill(i).map_err(text)?;
        }
        self.wait("primary and backup are dead: the app is lost", |v| {
            Trial::app(v, &app.name)["state"] == "LOST"
        })?;
        // Others may have had the same two nodes.
        for a in self.apps.clone() {
            let state = Trial::app(&self.ps().ok_or("no cluster")?, &a.name)["state"].clone();
            let file = self.fleet.app_file(&a, &[]).map_err(text)?;
            if a.name == app.name || state == "LOST" {
                self.fails(&format!("up {}", file.display()), "LOST")?;
                self.fails(&format!("down {}", a.name), "LOST")?;
                // Another program would answer at the same address.
                let changed = self.fleet.app_file(&a, &["-v"]).map_err(text)?;
                self.fails(&format!("up {}", changed.display()), "LOST")?;
                let file = self.fleet.app_file(&a, &[]).map_err(text)?;
                self.fleet
                    .done(&format!("up --again {}", file.display()))
                    .map_err(text)?;
            }
        }
        let after = Trial::app(&self.ps().ok_or("no cluster")?, &app.name);
        if after["image"] == before["image"] {
            return Err(format!("{}: it is the same image", app.name));
        }
        self.fleet.join(p).map_err(text)?;
        self.fleet.join(b).map_err(text)?;
        self.wait("both nodes are back", |v| {
            v["nodes"].as_array().is_some_and(|n| n.len() == NODES)
        })?;
        self.protected("started anew")
    }

    /// What an etcd that was emptied does not name runs on.
    fn emptied(&mut self) -> Result<(), String> {
        let node = self.primary(0)?;
        self.fleet.empty_members().map_err(text)?;
        self.say("the etcd has lost all it had");
        self.fleet.end_daemon(node, KILL).map_err(text)?;
        self.fleet.join(node).map_err(text)?;
        if !until(LONG, || self.fleet.has_ended(node)) {
            return Err("a daemon joined an etcd that was emptied".to_string());
        }
        let log = self.fleet.log(node);
        if !log.contains("etcd holds no cluster any more") {
            return Err(format!("the daemon did not say why it ended: {log}"));
        }
        self.say("its daemon does not join it");
        self.fleet.join_with(node, "--new-cluster").map_err(text)?;
        self.wait("with --new-cluster it does", |v| {
            v["nodes"].as_array().is_some_and(|n| n.len() == 1)
        })?;
        std::thread::sleep(CUT);
        if self.fleet.nodes[node].has_images().map_err(text)?.is_none() {
            return Err("the image was ended".to_string());
        }
        if !self
            .fleet
            .log(node)
            .contains("it is not of this cluster and runs on")
        {
            return Err("the daemon did not say whose the image is".to_string());
        }
        self.say("the image runs on");
        Ok(())
    }

    fn refused(&mut self) -> Result<(), String> {
        let app = App {
            name: "none".to_string(),
            ip: Ipv4Addr::new(10, 77, 0, 99),
            ..self.apps[0].clone()
        };
        let file = self.fleet.app_file(&app, &[]).map_err(text)?;
        let written = std::fs::read_to_string(&file).map_err(text)?;
        std::fs::write(&file, written.replace("\"memcached\"", "\"no-such-program\"")).map_err(text)?;
        self.fails(&format!("up {}", file.display()), "no-such-program: not found")?;
        let shared = App {
            name: "other".to_string(),
            ..app.clone()
        };
        let file = self.fleet.app_file(&shared, &[]).map_err(text)?;
        self.fails(&format!("up {}", file.display()), "the address")?;
        self.fleet.done("down none").map_err(text)?;
        self.fails("down none", "no app is named none")?;
        self.fails("drain n9", "no node named n9")?;
        self.fails(
            "node join --insecure --net eth0 --name n1 --listen 10.77.0.1:7100",
            "a node named n1 is in the cluster already",
        )?;
        self.say("what cannot be is refused");
        Ok(())
    }

    fn down(&mut self) -> Result<(), String> {
        let page = self.fleet.fetch(0, 9100, "/metrics").map_err(text)?;
        for line in [
            "ftvm_node_etcd_up{node=\"n1\"} 1",
            "ftvm_cluster_app_state{node=\"n1\",app=\"kv0\",state=\"protected\"} 1",
        ] {
            if !page.contains(line) {
                return Err(format!("/metrics lacks {line}:\n{page}"));
            }
        }
        let names: Vec<&str> = self.apps.iter().map(|a| a.name.as_str()).collect();
        self.fleet
            .done(&format!("down {}", names.join(" ")))
            .map_err(text)?;
        self.say("all apps are down");
        for n in &self.fleet.nodes {
            if let Some(what) = n.has_images().map_err(text)? {
                self.report.wrong.push(format!("{} still has {what}", n.name));
            }
        }
        self.wait("no apps", |v| v["apps"].as_array().is_some_and(Vec::is_empty))
    }
}
