//! pgbench at work on a host: PostgreSQL's own clients beside ours. It ends at the first connection that is lost.

use crate::net::{Host, IMAGE};
use crate::speak::{Connection, Server};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Where Debian has it.
const PROGRAM: &str = "/usr/lib/postgresql/15/bin/pgbench";
/// Each says of the tables in pgbench's way what every prefix of its transactions keeps.
const KEPT: [&str; 3] = [
    "select (select sum(delta) from pgbench_history) = (select sum(abalance) from pgbench_accounts)",
    "select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches)",
    "select (select sum(abalance) from pgbench_accounts) = (select sum(tbalance) from pgbench_tellers)",
];

/// A run of it.
#[derive(Debug)]
pub struct Pgbench {
    child: Child,
}

fn pgbench(host: &Host, options: &str) -> io::Result<Child> {
    let program = match Path::new(PROGRAM).exists() {
        true => PROGRAM,
        false => "pgbench",
    };
    let ip = IMAGE.to_string();
    let port = Server::Postgres.port().to_string();
    host.within(|| {
        Command::new(program)
            .args(options.split(' '))
            .args(["-h", &ip, "-p", &port, "-U", "pg", "postgres"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    })
}

fn good(done: &Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    match done.status.success() {
        true => Ok(text),
        false => Err(format!(
            "pgbench: {}: {text}{}",
            done.status,
            String::from_utf8_lossy(&done.stderr)
        )),
    }
}

impl Pgbench {
    /// Fills the tables, and starts `connections` that work for this many seconds.
    pub fn start(host: &Host, connections: usize, seconds: u64) -> io::Result<Pgbench> {
        let filled = pgbench(host, "-i -q")?.wait_with_output()?;
        good(&filled).map_err(io::Error::other)?;
        let child = pgbench(host, &format!("-n -c {connections} -T {seconds}"))?;
        Ok(Pgbench { child })
    }

    /// Waits until it ends; what must not be.
    pub fn finish(self, host: &Host, patience: Duration) -> Vec<String> {
        match self.judge(host, patience) {
            Ok(wrong) => wrong,
            Err(e) => vec![format!("pgbench: {e}")],
        }
    }

    fn judge(self, host: &Host, patience: Duration) -> io::Result<Vec<String>> {
        let text = match good(&self.child.wait_with_output()?) {
            Ok(text) => text,
            Err(why) => return Ok(vec![why]),
        };
        let number = |words: &str| -> Option<u64> {
            let rest = text.split(words).nth(1)?.trim_start();
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let done = number("number of transactions actually processed:");
        let mut wrong = Vec::new();
        if number("number of failed transactions:") != Some(0) || done.is_none_or(|n| n == 0) {
            wrong.push(format!("pgbench says: {text}"));
        }
        let answers = host.within(|| -> io::Result<Vec<Option<String>>> {
            let mut c = Connection::open(Server::Postgres, IMAGE, patience)?;
            let mut all = vec![c.sql("select count(*) from pgbench_history")?];
            for q in KEPT {
                all.push(c.sql(q)?);
            }
            Ok(all)
        })?;
        if answers.first() != Some(&done.map(|n| n.to_string())) {
            wrong.push(format!(
                "{done:?} transactions were answered, {:?} are in the history",
                answers.first()
            ));
        }
        for (query, answer) in KEPT.iter().zip(&answers[1..]) {
            if answer.as_deref() != Some("t") {
                wrong.push(format!("{query}: {answer:?}"));
            }
        }
        Ok(wrong)
    }
}
