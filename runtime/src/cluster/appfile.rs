//! app.toml: what is to run, as a user writes it. An `ftvm.toml` ([`ftl_images::config`]) with what only a cluster has: a
//! name, an address, a place, and the image whose root and configuration the rest stands over.

use super::spec::{App, absolute};
use crate::cli::options;
use ftl_images::config::{self, Before, NetworkMode, SlowBackup, Until, VolumePolicy};
use ftl_images::reference::Reference;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::Path;

/// Memory that an app counts for if it names none, bytes.
pub const MEMORY: u64 = 256 << 20;
/// Seconds between SIGTERM and SIGKILL if it names none.
pub const STOP_S: u64 = 10;

type Wrong = String;

/// Keys that an `ftvm.toml` has not.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Own {
    name: Option<String>,
    address: Addresses,
    rootfs: Option<String>,
    image: Option<String>,
    arguments: Vec<String>,
    stop_after: Option<String>,
    placement: Placement,
    replicas: Option<u8>,
    ready: Option<String>,
}

/// Their names.
const OWN: [&str; 9] = [
    "name",
    "address",
    "rootfs",
    "image",
    "arguments",
    "stop-after",
    "placement",
    "replicas",
    "ready",
];

/// A string, or a list of them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "write a string, in quotes, or a list of them")]
enum Addresses {
    One(String),
    All(Vec<String>),
}

impl Default for Addresses {
    fn default() -> Addresses {
        Addresses::All(Vec::new())
    }
}

/// Where it may be.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Placement {
    spread: Spread,
}

/// How much failure domains matter.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Spread {
    #[default]
    Prefer,
    /// A backup in the primary's failure domain is none.
    Require,
}

/// An app, and what is still to be found out about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// As it is to run. The identity of the image and the time are not the file's to say.
    pub app: App,
    /// The image whose digest is still to be found: [`File::pin`].
    pub image: Option<Reference>,
    /// How many of it there are to be; none: one, with the app's own name.
    pub replicas: Option<u8>,
    /// When one of them counts as ready.
    pub ready: Option<Until>,
    /// The file names how much memory it takes.
    limited: bool,
}

impl File {
    /// The apps that the file means. Replicas are apps of their own, `NAME-1` and so on, with addresses one after the other.
    pub fn apps(&self) -> Result<Vec<App>, Wrong> {
        let Some(n) = self.replicas else {
            return Ok(vec![self.app.clone()]);
        };
        (0..n).map(|i| self.replica(i)).collect()
    }

    fn replica(&self, i: u8) -> Result<App, Wrong> {
        let part = |p: &str| match p.split_once('=') {
            Some(("ip", ip)) => Ok(format!("ip={}", nth_address(ip, i)?)),
            Some(("mac", _)) => Err("network.mac: replicas cannot share it; leave it out".to_string()),
            _ => Ok(p.to_string()),
        };
        let net: Result<Vec<String>, Wrong> = self.app.net.split(',').map(part).collect();
        Ok(App {
            name: options::run_name(&format!("{}-{}", self.app.name, i + 1))?,
            group: Some(self.app.name.clone()),
            net: net?.join(","),
            ..self.app.clone()
        })
    }

    /// The image is this one, whatever its name means later. `own`: the configuration in it.
    pub fn pin(&mut self, pinned: &str, own: Option<&config::App>) -> Result<(), Wrong> {
        self.app
            .options
            .splice(0..0, ["--image".to_string(), pinned.to_string()]);
        // Whoever writes an image gets no secret that was not named for it.
        let given = self.app.secrets();
        let missing = own.and_then(|o| o.secrets.iter().find(|s| !given.contains(&s.name)));
        if let Some(s) = missing {
            return Err(format!(
                "the image needs the secret {0}: name it too, as [[secrets]] with name = \"{0}\"",
                s.name
            ));
        }
        if let Some(text) = own
            .and_then(|o| o.limits.memory.as_ref())
            .filter(|_| !self.limited)
        {
            self.app.memory = options::size(text).map_err(|e| format!("the image's limits.memory: {e}"))?;
        }
        Ok(())
    }
}

/// The address that is `i` behind the one of `ADDRESS/LENGTH`, in the same network.
fn nth_address(text: &str, i: u8) -> Result<String, Wrong> {
    let outside = || {
        format!(
            "address: the one of replica {} would not be in the network of {text}",
            i + 1
        )
    };
    let (ip, len) = text.split_once('/').ok_or_else(outside)?;
    let (first, bits): (u128, u32) = match ip.parse() {
        Ok(IpAddr::V4(a)) => (a.to_bits().into(), 32),
        Ok(IpAddr::V6(a)) => (a.to_bits(), 128),
        Err(_) => return Err(outside()),
    };
    let length: u32 = len.parse().map_err(|_| outside())?;
    let nth = first.checked_add(i.into()).ok_or_else(outside)?;
    let host = bits.checked_sub(length).ok_or_else(outside)?;
    if host < 128 && first >> host != nth >> host {
        return Err(outside());
    }
    let nth = match u32::try_from(nth) {
        Ok(v4) if bits == 32 => IpAddr::V4(v4.into()),
        _ if bits == 32 => return Err(outside()),
        _ => IpAddr::V6(nth.into()),
    };
    Ok(format!("{nth}/{len}"))
}

/// What an app answers once it is ready, at its first address.
fn ready(text: &str) -> Result<Until, Wrong> {
    match Until::parse(text) {
        Ok(Until::Log(_)) => Err(format!(
            "ready: {text:?}: what it prints is not seen from outside: write \"tcp :PORT\" or \"http :PORT/PATH\""
        )),
        Ok(until) => Ok(until),
        Err(_) => Err(format!(
            "ready: {text:?}: write \"tcp :PORT\" or \"http :PORT/PATH\""
        )),
    }
}

/// Reads a file.
pub fn read(path: &Path) -> Result<File, Wrong> {
    let at = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| format!("{at}: {}", crate::cli::reason(&e)))?;
    let dir = path.parent().unwrap_or(Path::new(""));
    parse(&text, &at, dir)
}

/// Reads the text of the file `at`, which lies in `dir`.
fn parse(source: &str, at: &str, dir: &Path) -> Result<File, Wrong> {
    let (file, own) = config::App::parse_with::<Own>(source, &OWN).map_err(|w| w.tell(at))?;
    build(own, &file, dir).map_err(|why| format!("{at}: {why}"))
}

fn build(own: Own, file: &config::App, dir: &Path) -> Result<File, Wrong> {
    let name = own.name.ok_or("name: missing; the app's name")?;
    let name = options::run_name(&name).map_err(|e| format!("name: {e}"))?;
    let image = own
        .image
        .map(|text| Reference::parse(&text).map_err(|e| format!("image: {e}")))
        .transpose()?;
    let command = match &image {
        None if file.command.is_empty() => {
            return Err(
                "command: missing; write the program and its arguments, as in [\"memcached\", \"-v\"], or image = \"NAME:TAG\""
                    .to_string(),
            );
        }
        None if !own.arguments.is_empty() => {
            return Err(
                "arguments: they are for the command of an image; without one write command".to_string(),
            );
        }
        None => file.command.clone(),
        Some(_) if !file.command.is_empty() => {
            return Err(
                "command: the image has its own; arguments = [...] takes the place of that one's arguments"
                    .to_string(),
            );
        }
        Some(_) if own.rootfs.is_some() => {
            return Err("rootfs: the image has its own root; leave out one of the two".to_string());
        }
        Some(_) => own.arguments,
    };
    let addresses = match own.address {
        Addresses::One(a) => vec![a],
        Addresses::All(a) => a,
    };
    let net = net(addresses, file.network.as_ref())?;
    let mut options = Vec::new();
    let mut option = |name: &str, value: String| options.extend([name.to_string(), value]);
    if let Some(root) = own.rootfs {
        option("--rootfs", absolute(&dir.join(root))?);
    }
    match &file.workdir {
        Some(dir) => option("--workdir", dir.clone()),
        None if image.is_none() => option("--workdir", "/".to_string()),
        None => {}
    }
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
    for s in &file.secrets {
        option("--secret", secret(s)?);
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
    if let Some(n) = file.limits.cpus {
        option("--cpus", n.to_string());
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
    let stop_s = match own.stop_after {
        Some(v) => crate::cli::options::interval(&v)
            .map_err(|e| format!("stop-after: {e}"))?
            .as_secs(),
        None => STOP_S,
    };
    if own.replicas == Some(0) {
        return Err("replicas: 0 is none; ftvm down takes an app down".to_string());
    }
    let file = File {
        app: App {
            name,
            group: None,
            image: 0,
            created: 0,
            net,
            options,
            command,
            memory,
            strict: own.placement.spread == Spread::Require,
            stop_s,
        },
        image,
        replicas: own.replicas,
        ready: own.ready.as_deref().map(ready).transpose()?,
        limited: file.limits.memory.is_some(),
    };
    // What is wrong with a replica's name or address is said before any is started.
    file.apps().map(|_| file)
}

/// The value of `--secret`: names and places only, as it is kept in etcd and is seen in lists of processes.
fn secret(s: &config::Secret) -> Result<String, Wrong> {
    // It would end the word.
    if s.env.as_ref().is_some_and(|var| var.contains(',')) {
        return Err(format!(
            "secrets: {}: env: a variable whose name has no comma",
            s.name
        ));
    }
    let mut words = vec![s.name.clone()];
    match (&s.env, &s.target) {
        (Some(var), _) => words.extend(["type=env".to_string(), format!("target={var}")]),
        (None, Some(file)) => words.extend(["type=mount".to_string(), format!("target={file}")]),
        // An image's own word holds, if it has one.
        (None, None) => {}
    }
    words.extend(s.uid.map(|n| format!("uid={n}")));
    words.extend(s.gid.map(|n| format!("gid={n}")));
    words.extend(s.mode.as_ref().map(|m| format!("mode={m}")));
    let text = words.join(",");
    crate::cli::secret::parse(&text).map_err(|e| format!("secrets: {}: {e}", s.name))?;
    Ok(text)
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
limits = { memory = "64m", pids = 50, cpus = 0.25 }

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
        parse(text, "app.toml", Path::new("/srv")).map(|f| f.app)
    }

    #[test]
    fn a_file_becomes_options_of_run() {
        let a = read(FULL).expect("read");
        assert_eq!(
            a.options.join(" "),
            "--rootfs /srv/root --workdir / --user 65534 --env A=b --volume /srv/x:/x:ro --memory 64m --pids 50 --cpus 0.25 \
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
    fn replicas_have_names_and_addresses_of_their_own() {
        let text = "version = 1\nname = \"web\"\naddress = [\"192.0.2.9/24\", \"2001:db8::ffff/64\"]\ncommand = [\"x\"]\n";
        let all = |more: &str| {
            parse(&format!("{text}{more}"), "app.toml", Path::new("/srv")).and_then(|f| f.apps())
        };
        let one = all("").expect("right");
        assert_eq!(
            (one.len(), one[0].name.as_str(), &one[0].group),
            (1, "web", &None)
        );
        let two = all("replicas = 2").expect("right");
        assert_eq!(two.len(), 2);
        assert_eq!(
            (two[0].name.as_str(), two[0].net.as_str()),
            ("web-1", one[0].net.as_str())
        );
        assert_eq!(two[1].net, "ip=192.0.2.10/24,ip=2001:db8::1:0/64");
        assert_eq!(two[1].group.as_deref(), Some("web"));
        for (more, says) in [
            ("replicas = 0", "0 is none"),
            (
                "replicas = 250",
                "replica 248 would not be in the network of 192.0.2.9/24",
            ),
            ("replicas = 256", "line 5"),
            ("ready = \"udp :1\"", "ready: "),
            ("ready = \"http :1/a b\"", "ready: "),
            ("ready = \"tcp :0\"", "ready: "),
            ("ready = \"log up\"", "not seen from outside"),
        ] {
            let why = all(more).expect_err(more);
            assert!(why.contains(says), "{more}: {why}");
        }
    }

    #[test]
    fn an_image_says_what_the_file_does_not() {
        let text = "version = 1\nname = \"x\"\naddress = \"192.0.2.5/24\"\nimage = \"h.example/kv:1\"\narguments = [\"--x\"]\nuser = \"5\"\n";
        let pinned = format!("h.example/kv@sha256:{}", "0".repeat(64));
        let mut f = parse(text, "app.toml", Path::new("/srv")).expect("read");
        assert_eq!(
            f.image.as_ref().map(Reference::name),
            Some("h.example/kv:1".to_string())
        );
        let own = config::App::parse("version = 1\nlimits = { memory = \"1g\" }").expect("right");
        f.pin(&pinned, Some(&own)).expect("pinned");
        assert_eq!(f.app.options, ["--image", &pinned, "--user", "5"]);
        assert_eq!((f.app.command, f.app.memory), (vec!["--x".to_string()], 1 << 30));
        let mut f = parse(
            &format!("{text}limits = {{ memory = \"1m\" }}"),
            "app.toml",
            Path::new("/srv"),
        )
        .expect("read");
        f.pin(&pinned, Some(&own)).expect("pinned");
        assert_eq!(f.app.memory, 1 << 20);
    }

    #[test]
    fn secrets_become_names_and_places() {
        let text = "version = 1\nname = \"x\"\naddress = \"192.0.2.5/24\"\n";
        let all = "[[secrets]]\nname = \"db\"\n[[secrets]]\nname = \"key\"\ntarget = \"tls.pem\"\nuid = 7\nmode = \"0400\"\n\
                   [[secrets]]\nname = \"token\"\nenv = \"TOKEN\"\n";
        let a = read(&format!("{text}command = [\"y\"]\n{all}")).expect("read");
        assert_eq!(
            a.options.join(" "),
            "--workdir / --secret db --secret key,type=mount,target=tls.pem,uid=7,mode=0400 --secret token,type=env,target=TOKEN"
        );
        let names: Vec<String> = a.secrets().into_iter().collect();
        assert_eq!(names, ["db", "key", "token"]);
        let why = read(&format!(
            "{text}command = [\"y\"]\n[[secrets]]\nname = \"a\"\nenv = \"A,B\"\n"
        ));
        assert!(why.is_err_and(|e| e.contains("secrets: a: ")));
        // An image gets what the file names for it, and nothing else.
        let own = config::App::parse(&format!("version = 1\n{all}")).expect("right");
        let pinned = format!("h.example/kv@sha256:{}", "0".repeat(64));
        let image = |all: &str| {
            let mut f = parse(
                &format!("{text}image = \"kv:1\"\n{all}"),
                "app.toml",
                Path::new("/srv"),
            )?;
            f.pin(&pinned, Some(&own)).map(|()| f.app.secrets().len())
        };
        assert_eq!(image(all), Ok(3));
        let two = all.replace("token", "other");
        assert!(image(&two).is_err_and(|e| e.contains("needs the secret token")));
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
                "line 6: unknown key rack; known are spread",
            ),
            (
                format!("{small}{command}[placement]\nspread = \"x\""),
                "unknown value x; known are prefer, require",
            ),
            (
                small.replace("address", "adress"),
                "line 3: unknown key adress; did you mean address?",
            ),
            (format!("{small}{command}placement = 1"), "line 5"),
            (format!("{small}{command}stop-after = 1"), "line 5"),
            (
                small.replace("\"192.0.2.50/24\"", "1"),
                "write a string, in quotes, or a list of them",
            ),
            (
                format!("{small}{command}image = \"kv:1\""),
                "command: the image has its own",
            ),
            (
                format!("{small}{command}arguments = []\nimage = \"K V\""),
                "image: ",
            ),
            (
                format!("{small}image = \"kv:1\"\nrootfs = \"x\""),
                "rootfs: the image has",
            ),
            (
                format!("{small}{command}arguments = [\"x\"]"),
                "arguments: they are for",
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
            (
                format!("{small}{command}[hooks.before-checkpoint]\ncommand = [\"x\"]"),
                "line 5: hooks: an app of a cluster has the hooks of its image",
            ),
            (
                format!("{small}{command}[health]\ncommand = [\"x\"]"),
                "line 5: health: the health of an app",
            ),
            (
                format!("{small}{command}warm-until = \"tcp :1\""),
                "line 5: warm-until: an app of a cluster is started cold",
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
