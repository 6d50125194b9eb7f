//! app.toml: what is to run, as a user writes it.

use super::spec::{App, absolute};
use crate::cli::options;
use std::path::Path;
use toml::{Table, Value};

/// Memory that an app counts for if it names none, bytes.
const MEMORY: u64 = 256 << 20;
/// Seconds between SIGTERM and SIGKILL if it names none.
const STOP_S: u64 = 10;

/// A table of which every key is asked for once: what is left is unknown.
struct Keys<'a> {
    /// Its name, empty for the file itself.
    name: &'a str,
    table: Table,
    known: Vec<&'static str>,
}

type Wrong = String;

impl Keys<'_> {
    fn place(&self, key: &str) -> String {
        match self.name {
            "" => key.to_string(),
            name => format!("{name}.{key}"),
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    fn wrong<T>(&self, key: &str, what: &str) -> Result<T, Wrong> {
        Err(format!("{}: {what}", self.place(key)))
    }

    fn text(&mut self, key: &'static str) -> Result<Option<String>, Wrong> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s)),
            Some(_) => self.wrong(key, "write a string, in quotes"),
        }
    }

    fn number(&mut self, key: &'static str) -> Result<Option<u64>, Wrong> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Integer(n)) if n >= 0 => Ok(Some(n as u64)),
            Some(_) => self.wrong(key, "write a number"),
        }
    }

    /// A string, or a list of them.
    fn texts(&mut self, key: &'static str) -> Result<Vec<String>, Wrong> {
        let text = |v: Value| match v {
            Value::String(s) => Ok(s),
            _ => Err(()),
        };
        let all = match self.take(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(a)) => a.into_iter().map(text).collect(),
            Some(v) => text(v).map(|s| vec![s]),
        };
        all.or_else(|()| self.wrong(key, "write a list of strings, as in [\"a\", \"b\"]"))
    }

    /// A table in it.
    fn table<'b>(&mut self, key: &'static str) -> Result<Keys<'b>, Wrong> {
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(t)) => t,
            Some(_) => return self.wrong(key, &format!("write a table, [{key}]")),
        };
        Ok(Keys {
            name: key,
            table,
            known: Vec::new(),
        })
    }

    /// Nothing is left.
    fn end(self) -> Result<(), Wrong> {
        let Some(key) = self.table.keys().next() else {
            return Ok(());
        };
        let near = self.known.iter().min_by_key(|k| distance(k, key));
        let hint = match near.filter(|k| distance(k, key) <= 3) {
            Some(k) => format!("; did you mean {}?", self.place(k)),
            None => format!("; known are {}", self.known.join(", ")),
        };
        Err(format!("{}: unknown key{hint}", self.place(key)))
    }
}

/// Insertions, deletions and replacements from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let here = row[j + 1].min(row[j]) + 1;
            before = std::mem::replace(&mut row[j + 1], here.min(before + usize::from(x != *y)));
        }
    }
    row[b.len()]
}

/// Reads a file. The identity of the image and the time are not its to say.
pub fn read(path: &Path) -> Result<App, Wrong> {
    let at = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| format!("{at}: {}", crate::cli::reason(&e)))?;
    let dir = path.parent().unwrap_or(Path::new(""));
    parse(&text, dir).map_err(|why| format!("{at}: {why}"))
}

/// Reads the text of a file that lies in `dir`.
fn parse(text: &str, dir: &Path) -> Result<App, Wrong> {
    let table: Table = text.parse().map_err(|e: toml::de::Error| {
        let line = e
            .span()
            .map_or(0, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
        format!("line {line}: {}", e.message())
    })?;
    let mut t = Keys {
        name: "",
        table,
        known: Vec::new(),
    };
    match t.number("version")? {
        Some(1) => {}
        Some(n) => {
            return Err(format!(
                "version: {n} is not known to this ftvm; it reads version 1"
            ));
        }
        None => return Err("version: missing; write version = 1".to_string()),
    }
    let name = t.text("name")?.ok_or("name: missing; the app's name")?;
    let name = options::run_name(&name).map_err(|e| format!("name: {e}"))?;
    let command = t.texts("command")?;
    if command.is_empty() {
        return Err(
            "command: missing; write the program and its arguments, as in [\"memcached\", \"-v\"]"
                .to_string(),
        );
    }
    let mut run = Vec::new();
    let mut option = |name: &str, value: String| run.extend([name.to_string(), value]);
    if let Some(root) = t.text("rootfs")? {
        option("--rootfs", absolute(&dir.join(root))?);
    }
    option("--workdir", t.text("workdir")?.unwrap_or("/".to_string()));
    for (key, name) in [("user", "--user"), ("hostname", "--hostname")] {
        if let Some(v) = t.text(key)? {
            option(name, v);
        }
    }
    let stop_s = match t.text("stop-after")? {
        Some(v) => options::interval(&v)
            .map_err(|e| format!("stop-after: {e}"))?
            .as_secs(),
        None => STOP_S,
    };
    let env = t.table("env")?;
    for (name, value) in env.table {
        let Value::String(value) = value else {
            return Err(format!("env.{name}: write a string, in quotes"));
        };
        option("--env", format!("{name}={value}"));
    }
    let mut volumes = t.texts("volumes")?;
    if let Some(v) = volumes.iter().find(|v| !v.ends_with(":ro")) {
        return Err(format!(
            "volumes: {v}: a volume that is written cannot fail over; write HOST:GUEST:ro"
        ));
    }
    for v in volumes.drain(..) {
        option("--volume", v);
    }

    let mut limits = t.table("limits")?;
    let memory = match limits.text("memory")? {
        Some(v) => {
            let bytes = options::size(&v).map_err(|e| format!("limits.memory: {e}"))?;
            option("--memory", v);
            bytes
        }
        None => MEMORY,
    };
    if let Some(n) = limits.number("pids")? {
        option("--pids", n.to_string());
    }
    limits.end()?;

    let mut network = t.table("network")?;
    let mut net: Vec<String> = Vec::new();
    for (key, short) in [("address", "ip"), ("gateway", "gw"), ("mac", "mac")] {
        net.extend(network.texts(key)?.into_iter().map(|v| format!("{short}={v}")));
    }
    network.end()?;
    let net = net.join(",");
    if !net.contains("ip=") {
        return Err(
            "network.address: missing; an app has an address of its own, as in \"192.0.2.50/24\"".to_string(),
        );
    }
    crate::cli::check_net(&format!("eth0,{net}")).map_err(|e| format!("network: {e}"))?;

    let mut protection = t.table("protection")?;
    if let Some(n) = protection.number("backups")?
        && n != 1
    {
        return Err(format!("protection.backups: {n}: an app has one backup"));
    }
    for key in ["detect-after", "max-recovery", "on-slow-backup"] {
        if let Some(v) = protection.text(key)? {
            option(&format!("--{key}"), v);
        }
    }
    protection.end()?;

    let mut placement = t.table("placement")?;
    let strict = match placement.text("spread")?.as_deref() {
        None | Some("prefer") => false,
        Some("require") => true,
        Some(other) => {
            return Err(format!(
                "placement.spread: {other:?}: write \"prefer\" or \"require\""
            ));
        }
    };
    placement.end()?;
    t.end()?;
    Ok(App {
        name,
        image: 0,
        created: 0,
        net,
        options: run,
        command,
        memory,
        strict,
        stop_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
version = 1
name = "kv"
command = ["memcached", "-l", "0.0.0.0"]
rootfs = "root"
user = "65534"
stop-after = "3s"
volumes = ["/srv/x:/x:ro"]
[env]
A = "b"
[limits]
memory = "64m"
pids = 50
[network]
address = ["192.0.2.50/24", "2001:db8::50/64"]
gateway = "192.0.2.1"
[protection]
backups = 1
detect-after = "200ms"
[placement]
spread = "require"
"#;

    #[test]
    fn a_file_becomes_options_of_run() {
        let a = parse(FULL, Path::new("/srv")).expect("read");
        assert_eq!(
            a.options.join(" "),
            "--rootfs /srv/root --workdir / --user 65534 --env A=b --volume /srv/x:/x:ro --memory 64m --pids 50 \
             --detect-after 200ms"
        );
        assert_eq!(a.net, "ip=192.0.2.50/24,ip=2001:db8::50/64,gw=192.0.2.1");
        assert_eq!((a.memory, a.strict, a.stop_s), (64 << 20, true, 3));
    }

    #[test]
    fn errors_name_the_key_and_what_is_right() {
        let small = "version = 1\nname = \"kv\"\ncommand = [\"x\"]\n";
        let net = "[network]\naddress = \"192.0.2.50/24\"\n";
        assert!(parse(&format!("{small}{net}"), Path::new("")).is_ok());
        for (text, says) in [
            (
                format!("{small}nmae = 1\n{net}"),
                "nmae: unknown key; did you mean name?",
            ),
            (
                format!("{small}{net}[limits]\nmemroy = \"1m\""),
                "limits.memroy: unknown key; did you mean limits.memory?",
            ),
            (
                format!("{small}{net}[limits]\nmemory = 1"),
                "limits.memory: write a string",
            ),
            (small.to_string(), "network.address: missing"),
            (
                format!("{small}[network]\naddress = \"192.0.2.50\""),
                "192.0.2.50",
            ),
            (format!("{small}{net}[protection]\nbackups = 2"), "one backup"),
            (format!("{small}volumes = [\"/a:/b\"]\n{net}"), "cannot fail over"),
            ("version = 2".to_string(), "version: 2"),
            (String::new(), "version: missing"),
            ("version = 1\nname = \"../x\"".to_string(), "name: "),
            ("version = 1\nname = \"x\"".to_string(), "command: missing"),
            ("version = \n".to_string(), "line 1"),
        ] {
            let why = parse(&text, Path::new("")).expect_err(&text);
            assert!(why.contains(says), "{text}: {why}");
        }
    }
}
