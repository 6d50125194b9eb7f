//! Programs that do their work and end, again and again for the time of a measurement; and single operations, which a
//! small C program does and counts (`micro.c`), the same binary in every mode.

use crate::plan::Server;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// Parts of `micro.c`.
pub const MICRO: &[&str] = &[
    "getppid",
    "clock-gettime",
    "yield",
    "condvar",
    "futex",
    "pipe-threads",
    "pipe-processes",
    "unix-processes",
    "epoll",
    "page-fault",
    "mmap",
    "semop",
    "fork",
    "fork-100mb",
    "spawn-true",
];

/// Transactions of one unit of SQLite's work.
const TRANSACTIONS: usize = 100;
/// Rows of one unit of its inserts.
const ROWS: usize = 20_000;
/// Files of the program that is built.
const SOURCES: usize = 8;

fn done(mut command: Command) -> io::Result<()> {
    let name = command.get_program().display().to_string();
    let out = command
        .output()
        .map_err(|e| io::Error::other(format!("{name}: {e}: run ci/install")))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{name}: {}",
            String::from_utf8_lossy(&out.stderr)
        ))),
    }
}

fn sqlite(mode: &str, inserts: bool) -> String {
    let mut t = format!(
        "pragma journal_mode={mode};\npragma synchronous=FULL;\ndrop table if exists t;\n\
         create table t (k integer primary key, v text);\n"
    );
    let row = "insert into t (v) values (hex(randomblob(50)));\n";
    match inserts {
        true => t += &format!("begin;\n{}commit;\n", row.repeat(ROWS)),
        false => t += &format!("begin;\n{row}commit;\n").repeat(TRANSACTIONS),
    }
    t
}

/// A function that gcc has some work with.
fn source(n: usize) -> String {
    let part = |i: usize| {
        format!(
            "static long f{n}_{i}(const long *a, int n) {{ long s = {i}; \
             for (int j = 0; j < n; j++) {{ if (a[j] % {m}) s += a[j] * s; else s ^= a[j] >> 3; }} return s; }}\n",
            m = i + 2
        )
    };
    let call = |i: usize| format!(" + f{n}_{i}(a, n)");
    let all: String = (0..40).map(part).collect();
    let sum: String = (0..40).map(call).collect();
    format!("{all}long g{n}(const long *a, int n) {{ return 0{sum}; }}\n")
}

/// Writes and compiles what the programs need, natively, before anything is measured.
pub fn prepare(server: Server, home: &Path) -> io::Result<()> {
    match server {
        Server::Sqlite => {
            for (name, mode, inserts) in [
                ("sqlite-wal", "WAL", false),
                ("sqlite-delete", "DELETE", false),
                ("sqlite-inserts", "WAL", true),
            ] {
                fs::write(home.join(format!("{name}.sql")), sqlite(mode, inserts))?;
            }
            Ok(())
        }
        Server::Build => {
            let mut objects = String::new();
            for n in 0..SOURCES {
                fs::write(home.join(format!("s{n}.c")), source(n))?;
                objects += &format!(" s{n}.o");
            }
            let rules = format!(
                "lib.a:{objects}\n\tar rc lib.a{objects}\n%.o: %.c\n\tgcc -O2 -c $< -o $@\nclean:\n\trm -f *.o lib.a\n"
            );
            fs::write(home.join("Makefile"), rules)
        }
        Server::Java => {
            let source = home.join("Pool.java");
            fs::write(&source, include_str!("../../../guests/apps/java/Pool.java"))?;
            let mut c = Command::new("javac");
            c.arg("-d").arg(home.join("classes")).arg(source);
            done(c)
        }
        Server::Micro => {
            let source = home.join("micro.c");
            fs::write(&source, include_str!("micro.c"))?;
            let mut c = Command::new("gcc");
            c.args(["-O2", "-pthread", "-o"])
                .arg(home.join("micro"))
                .arg(source);
            done(c)
        }
        _ => Ok(()),
    }
}

/// A unit of work, as a command in `home`. The system's own python, not one that a version manager starts.
pub fn command(scenario: &str, home: &Path, ms: u64) -> Vec<String> {
    let sh = |text: &str| vec!["sh".to_string(), "-c".to_string(), text.to_string()];
    match scenario {
        s if s.starts_with("sqlite-") => sh(&format!("rm -f {s}.db*; sqlite3 {s}.db < {s}.sql > /dev/null")),
        "python-start" => sh("exec /usr/bin/python3 -c 'import json, asyncio'"),
        "node-start" => sh("exec node -e 0"),
        "gcc" => sh("exec gcc -O2 -c s0.c -o one.o"),
        "make" => sh("make -s clean && exec make -s -j4"),
        "java-pool" => sh("exec java -Xmx256m -XX:+UseSerialGC -cp classes Pool > /dev/null"),
        part => vec![
            home.join("micro").display().to_string(),
            part.to_string(),
            ms.to_string(),
        ],
    }
}

/// What `micro` says: operations, and in how many seconds.
pub fn read_micro(said: &str) -> Option<(u64, f64)> {
    let (n, ns) = said.lines().last()?.split_once(' ')?;
    Some((
        n.parse().ok()?,
        ns.parse::<f64>().ok().filter(|s| *s > 0.0)? / 1e9,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_micro_says() {
        assert_eq!(read_micro("1000 500000000\n"), Some((1000, 0.5)));
        assert_eq!(read_micro("x\n"), None);
        assert_eq!(read_micro("1 0\n"), None);
    }

    #[test]
    fn every_operation_is_done_and_counted() {
        let home = std::env::temp_dir().join(format!("ftl-bench-test-{}", std::process::id()));
        fs::create_dir_all(&home).expect("a directory");
        prepare(Server::Micro, &home).expect("it compiles");
        for part in MICRO {
            let c = command(part, &home, 5);
            let out = Command::new(&c[0]).args(&c[1..]).output().expect("it starts");
            let said = String::from_utf8_lossy(&out.stdout);
            assert!(
                read_micro(&said).is_some_and(|(n, _)| n > 0),
                "{part}: {said} {out:?}"
            );
        }
        let _ = fs::remove_dir_all(home);
    }
}
