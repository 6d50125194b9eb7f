//! app.toml: what is to run, as a user writes it. An `ftvm.toml` ([`ftl_images::config`]) with what only a cluster has: a
//! name, an address, a place.

use super::spec::{App, absolute};
use crate::cli::options;
use ftl_images::config::{self, Before, NetworkMode, SlowBackup, VolumePolicy};
use std::path::Path;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

/// Memory that an app counts for if it names none, bytes.
pub const MEMORY: u64 = 256 << 20;
/// Seconds between SIGTERM and SIGKILL if it names none.
pub const STOP_S: u64 = 10;
/// Keys that an `ftvm.toml` has not.
const OWN: [&str; 5] = ["name", "address", "rootfs", "stop-after", "placement"];

type Wrong = String;

/// Reads a file. The identity of the image and the time are not its to say.
pub fn read(path: &Path) -> Result<App, Wrong> {
    let at = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| format!("{at}: {}", crate::cli::reason(&e)))?;
    let dir = path.parent().unwrap_or(Path::new(""));
    parse(&text, &at, dir)
}

/// The keys that are ours, and the text without them: every line stays where it is, so that errors name the right one.
fn split(text: &str) -> (Table, String) {
    let mut own = Table::new();
    let mut rest = text.as_bytes().to_vec();
    // A text that cannot be parsed is explained by whoever parses the rest.
    let (Ok(spans), Ok(mut table)) = (DeTable::parse(text), text.parse::<Table>()) else {
        return (own, text.to_string());
    };
    let mut blank = |from: usize, to: usize| {
        for b in rest.iter_mut().take(to).skip(from).filter(|b| **b != b'\n') {
            *b = b' ';
        }
    };
    for (key, value) in spans
        .get_ref()
        .iter()
        .filter(|(k, _)| OWN.contains(&k.get_ref().as_ref()))
    {
        match (value.get_ref(), table.remove(key.get_ref().as_ref())) {
            (_, None) => continue,
            (_, Some(v)) => drop(own.insert(key.get_ref().to_string(), v)),
        }
        let line = text[..key.span().start].rfind('\n').map_or(0, |n| n + 1);
        if text[line..].trim_start().starts_with('[') {
            // A table with lines of its own, the first of which has its name.
            blank(line, text[line..].find('\n').map_or(text.len(), |n| line + n));
            parts(value, &mut blank);
        } else {
            let mut end = value.span().end;
            parts(value, &mut |_, to| end = end.max(to));
            blank(key.span().start, end);
        }
    }
    (own, String::from_utf8(rest).unwrap_or_default())
}

/// Where keys begin and their values end, in a table and in those below it.
fn parts(value: &Spanned<DeValue<'_>>, seen: &mut dyn FnMut(usize, usize)) {
    if let DeValue::Table(t) = value.get_ref() {
        for (k, v) in t {
            seen(k.span().start, v.span().end);
            parts(v, seen);
        }
    }
}

/// A string, or a list of them.
fn texts(key: &str, value: Option<Value>) -> Result<Vec<String>, Wrong> {
    let text = |v: Value| match v {
        Value::String(s) => Ok(s),
        _ => Err(format!("{key}: write a string, in quotes, or a list of them")),
    };
    match value {
        None => Ok(Vec::new()),
        Some(Value::Array(a)) => a.into_iter().map(text).collect(),
        Some(v) => text(v).map(|s| vec![s]),
    }
}

fn text(key: &str, value: Option<Value>) -> Result<Option<String>, Wrong> {
    match value {
        None => Ok(None),
        Some(Value::String(s)) => Ok(Some(s)),
        Some(_) => Err(format!("{key}: write a string, in quotes")),
    }
}

/// Reads the text of the file `at`, which lies in `dir`.
fn parse(source: &str, at: &str, dir: &Path) -> Result<App, Wrong> {
    let (own, rest) = split(source);
    let file = config::App::parse(&rest).map_err(|w| w.tell(at))?;
    build(own, &file, dir).map_err(|why| format!("{at}: {why}"))
}

fn build(mut own: Table, file: &config::App, dir: &Path) -> Result<App, Wrong> {
    let name = text("name", own.remove("name"))?.ok_or("name: missing; the app's name")?;
    let name = options::run_name(&name).map_err(|e| format!("name: {e}"))?;
    if file.command.is_empty() {
        return Err(
            "command: missing; write the program and its arguments, as in [\"memcached\", \"-v\"]"
                .to_string(),
        );
    }
    let net = net(texts("address", own.remove("address"))?, file.network.as_ref())?;
    let mut options = Vec::new();
    let mut option = |name: &str, value: String| options.extend([name.to_string(), value]);
    if let Some(root) = text("rootfs", own.remove("rootfs"))? {
        option("--rootfs", absolute(&dir.join(root))?);
    }
    option("--workdir", file.workdir.clone().unwrap_or("/".to_string()));
    for (name, value) in [("--user", &file.user), ("--hostname", &file.hostname)] {
        if let Some(v) = value {
            option(name, v.clone());
        }
    }
    for (name, value) in &file.environment {
        option("--env", format!("{name}={value}"));
    }
    for v in &file.volumes {
        match (v.policy, &v.host) {
            (VolumePolicy::Image, _) => {}
            (VolumePolicy::ReadOnly, Some(host)) => option("--volume", format!("{host}:{}:ro", v.path)),
            (VolumePolicy::ReadOnly, None) => return Err(format!("volumes: {}: host: missing", v.path)),
            (VolumePolicy::WriteThrough, _) => {
                return Err(format!(
                    "volumes: {}: a volume that is written through cannot fail over",
                    v.path
                ));
            }
        }
    }
    let memory = match &file.limits.memory {
        Some(v) => {
            let bytes = crate::cli::options::size(v).map_err(|e| format!("limits.memory: {e}"))?;
            option("--memory", v.clone());
            bytes
        }
        None => MEMORY,
    };
    if let Some(n) = file.limits.pids {
        option("--pids", n.to_string());
    }
    let p = &file.protection;
    if p.arbiter.is_some() {
        return Err("protection.arbiter: the arbiter of an app is its cluster's; leave it out".to_string());
    }
    let before = p.unprotected.map(|b| match b {
        Before::Hold => "hold".to_string(),
        Before::Run => "run".to_string(),
    });
    let slow = p.on_slow_backup.map(|s| match s {
        SlowBackup::Throttle => "throttle".to_string(),
        SlowBackup::Detach => "detach".to_string(),
    });
    for (name, value) in [
        ("--unprotected", before),
        ("--on-slow-backup", slow),
        ("--detect-after", p.detect_after.clone()),
        ("--max-recovery", p.max_recovery.clone()),
    ] {
        if let Some(v) = value {
            option(name, v);
        }
    }
    if file.recordable {
        options.push("--recordable".to_string());
    }
    let stop_s = match text("stop-after", own.remove("stop-after"))? {
        Some(v) => crate::cli::options::interval(&v)
            .map_err(|e| format!("stop-after: {e}"))?
            .as_secs(),
        None => STOP_S,
    };
    Ok(App {
        name,
        image: 0,
        created: 0,
        net,
        options,
        command: file.command.clone(),
        memory,
        strict: strict(own.remove("placement"))?,
        stop_s,
    })
}

/// `--net` without the interface: the address is the app's, the interface the node's.
fn net(address: Vec<String>, network: Option<&config::Network>) -> Result<String, Wrong> {
    let none = config::Network {
        mode: NetworkMode::Own,
        interface: None,
        ip: Vec::new(),
        gateway: Vec::new(),
        mac: None,
    };
    let n = network.unwrap_or(&none);
    if n.mode != NetworkMode::Own {
        return Err("network.mode: an app has an address of its own: write \"own\", or address = \"192.0.2.50/24\" alone".to_string());
    }
    if n.interface.is_some() {
        return Err("network.interface: it is the node's (ftvm node join --net); leave it out".to_string());
    }
    if address.is_empty() == n.ip.is_empty() {
        return Err(
            "address: write the app's address, as in \"192.0.2.50/24\", here or as network.ip".to_string(),
        );
    }
    let mut parts: Vec<String> = Vec::new();
    let mut add = |short: &str, all: &[String]| parts.extend(all.iter().map(|v| format!("{short}={v}")));
    add("ip", &address);
    add("ip", &n.ip);
    add("gw", &n.gateway);
    add("mac", n.mac.as_slice());
    let net = parts.join(",");
    crate::cli::check_net(&format!("eth0,{net}")).map_err(|e| format!("address: {e}"))?;
    Ok(net)
}

/// True: a backup in the primary's failure domain is none.
fn strict(placement: Option<Value>) -> Result<bool, Wrong> {
    let mut table = match placement {
        None => return Ok(false),
        Some(Value::Table(t)) => t,
        Some(_) => return Err("placement: write a table, [placement]".to_string()),
    };
    let spread = text("placement.spread", table.remove("spread"))?;
    if let Some(key) = table.keys().next() {
        return Err(format!("placement: unknown key {key}; known are spread"));
    }
    match spread.as_deref() {
        None | Some("prefer") => Ok(false),
        Some("require") => Ok(true),
        Some(other) => Err(format!(
            "placement.spread: {other:?}: write \"prefer\" or \"require\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
version = 1
name = "kv"
address = [
    "192.0.2.50/24",
    "2001:db8::50/64",
]
command = ["memcached", "-l", "0.0.0.0"]
environment = { A = "b" }
rootfs = "root"
user = "65534"
stop-after = "3s"
limits = { memory = "64m", pids = 50 }

[placement]
# Racks.
spread = "require"

[protection]
detect-after = "200ms"

[[volumes]]
path = "/x"
host = "/srv/x"
policy = "read-only"
"#;

    fn read(text: &str) -> Result<App, Wrong> {
        parse(text, "app.toml", Path::new("/srv"))
    }

    #[test]
    fn a_file_becomes_options_of_run() {
        let a = read(FULL).expect("read");
        assert_eq!(
            a.options.join(" "),
            "--rootfs /srv/root --workdir / --user 65534 --env A=b --volume /srv/x:/x:ro --memory 64m --pids 50 \
             --detect-after 200ms"
        );
        assert_eq!(a.net, "ip=192.0.2.50/24,ip=2001:db8::50/64");
        assert_eq!((a.memory, a.strict, a.stop_s), (64 << 20, true, 3));
        let inline = FULL
            .replace("[placement]\n# Racks.\nspread = \"require\"\n", "")
            .replace(
                "[protection]",
                "[placement]\nspread = \"prefer\" # x\n[protection]",
            );
        assert_eq!(read(&inline).map(|a| a.strict), Ok(false));
        let inline = FULL
            .replace("[placement]\n# Racks.\nspread = \"require\"\n", "")
            .replace("stop-after", "placement = { spread = \"require\" }\nstop-after");
        assert_eq!(read(&inline).map(|a| a.strict), Ok(true));
    }

    #[test]
    fn an_address_can_stand_with_its_router() {
        let text = "version = 1\nname = \"x\"\ncommand = [\"y\"]\n[network]\nmode = \"own\"\nip = [\"192.0.2.5/24\"]\n\
                    gateway = [\"192.0.2.1\"]\nmac = \"02:00:00:00:00:01\"\n";
        let net = "ip=192.0.2.5/24,gw=192.0.2.1,mac=02:00:00:00:00:01";
        assert_eq!(read(text).map(|a| a.net), Ok(net.to_string()));
    }

    #[test]
    fn errors_name_the_line_and_what_is_right() {
        let small = "version = 1\nname = \"kv\"\naddress = \"192.0.2.50/24\"\n";
        let command = "command = [\"x\"]\n";
        assert_eq!(read(&format!("{small}{command}")).map(|a| a.memory), Ok(MEMORY));
        for (text, says) in [
            (
                format!("{small}comand = 1\n"),
                "app.toml, line 4: unknown key comand; did you mean command?",
            ),
            (
                format!("{small}{command}[placement]\nspread = \"prefer\"\n[limits]\nmemroy = \"1m\""),
                "line 8: unknown key memroy; did you mean memory?",
            ),
            (
                format!("{small}{command}[placement]\nrack = 1"),
                "unknown key rack; known are spread",
            ),
            (
                format!("{small}{command}[placement]\nspread = \"x\""),
                "write \"prefer\" or",
            ),
            (small.to_string(), "command: missing"),
            (format!("version = 1\nname = \"kv\"\n{command}"), "address: write"),
            (
                format!("version = 1\nname = \"kv\"\n{command}address = \"1.2.3.4\""),
                "1.2.3.4",
            ),
            (
                format!("{small}{command}[network]\nmode = \"host\""),
                "network.mode",
            ),
            (
                format!(
                    "{small}{command}[[volumes]]\npath = \"/a\"\nhost = \"/b\"\npolicy = \"write-through\""
                ),
                "cannot fail over",
            ),
            (
                format!("{small}{command}[protection]\narbiter = \"file:x\""),
                "its cluster's",
            ),
            ("version = 2".to_string(), "version 2"),
            ("version = 1\ncommand = [\"x\"]".to_string(), "name: missing"),
            (format!("{command}version = 1\nname = \"../x\""), "name: "),
            ("version = \n".to_string(), "line 1"),
        ] {
            let why = read(&text).expect_err(&text);
            assert!(why.contains(says), "{text}: {why}");
        }
    }
}
