//! A cluster: nodes with `ftvm node join`, the members of an etcd, a client, each a host of its own on one bridge.

use crate::net::{self, Host};
use crate::now_ns;
use crate::speak::Server;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Members of the etcd.
pub const MEMBERS: usize = 3;
const ETCD: u16 = 2379;
const ETCD_PEER: u16 = 2380;
const AGENT: u16 = 7100;
/// Where the registry is, if there is one.
pub const REGISTRY: &str = "10.77.0.1:5000";
/// A node that is not heard for so long counts as gone, seconds.
const TTL: u64 = 3;
/// Silence of a primary that counts as its death. Many programs share two cores here.
const DETECT: &str = "1500ms";

fn on_bridge(last: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last as u8)
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its host.
    pub host: Host,
    /// Its ftvm, if that is not the others'.
    pub ftvm: Option<PathBuf>,
    daemon: Option<Child>,
}

impl Node {
    /// A process that is neither the daemon nor its agent, if there is one.
    pub fn has_images(&self) -> io::Result<Option<String>> {
        let daemon = self.daemon.as_ref().map(|c| c.id() as i32);
        for pid in self.host.processes()? {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<String> = line
                .split(|b| *b == 0)
                .map(|w| String::from_utf8_lossy(w).into_owned())
                .collect();
            // A standby has the agent's command line too, and is its child.
            let parent = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = parent
                .rsplit_once(") ")
                .and_then(|(_, r)| r.split(' ').nth(1)?.parse().ok());
            let agent = words.get(1).is_some_and(|w| w == "agent") && parent == daemon;
            if Some(pid) != daemon && !agent && !line.is_empty() {
                return Ok(Some(format!("process {pid}: {}", words.join(" "))));
            }
        }
        Ok(None)
    }
}

/// An app that is to run.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name.
    pub name: String,
    /// What it is.
    pub server: Server,
    /// Its address.
    pub ip: Ipv4Addr,
}

/// See the module. All processes end with it.
#[derive(Debug)]
pub struct Fleet {
    /// Where clients are, and where verbs are given.
    pub client: Host,
    /// The nodes.
    pub nodes: Vec<Node>,
    members: Vec<(Host, Option<Child>)>,
    registry: Option<Child>,
    /// etcd is spoken to by TLS, and takes clients with a key only.
    tls: bool,
    home: PathBuf,
    ftvm: PathBuf,
}

impl Fleet {
    /// Hosts, and an etcd that answers. `home` is a new directory, removed in the end. The caller is in namespaces of its
    /// own ([`net::enter`]).
    ///
    /// `tls`: etcd speaks TLS and takes clients with a key only; nodes have theirs beside the keys of their links.
    pub fn new(nodes: usize, ftvm: &Path, home: &Path, tls: bool) -> io::Result<Fleet> {
        net::bridge("br0")?;
        net::bridge("br1")?;
        let mut f = Fleet {
            client: Host::on_bridge("client", on_bridge(1))?,
            nodes: Vec::new(),
            members: Vec::new(),
            registry: None,
            tls,
            home: home.to_path_buf(),
            ftvm: ftvm.to_path_buf(),
        };
        f.make_dir("files")?;
        f.make_home("client")?;
        for i in 0..nodes {
            let name = format!("n{}", i + 1);
            f.make_home(&name)?;
            f.make_keys(&name)?;
            f.nodes.push(Node {
                host: Host::on_bridge(&name, on_bridge(11 + i))?,
                name,
                ftvm: None,
                daemon: None,
            });
        }
        if tls {
            f.make_etcd_keys()?;
        }
        for i in 0..MEMBERS {
            let host = Host::on_bridge(&format!("e{}", i + 1), on_bridge(21 + i))?;
            f.members.push((host, None));
        }
        for i in 0..MEMBERS {
            f.start_member(i)?;
        }
        Ok(f)
    }

    fn make_dir(&self, name: &str) -> io::Result<()> {
        let mut make = fs::DirBuilder::new();
        make.recursive(true).mode(0o700).create(self.home.join(name))
    }

    fn make_home(&self, name: &str) -> io::Result<()> {
        ["run", "state", "data"]
            .iter()
            .try_for_each(|d| self.make_dir(&format!("{name}/{d}")))
    }

    /// Keys of a node; the first one's authority signs the others'.
    fn make_keys(&self, name: &str) -> io::Result<()> {
        let mut c = Command::new(&self.ftvm);
        c.arg("keygen")
            .args(["--name", name, "--out"])
            .arg(self.home.join(name).join("keys"));
        if let Some(first) = self.nodes.first() {
            c.arg("--authority").arg(self.home.join(&first.name).join("keys"));
        }
        let out = c.output()?;
        match out.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(
                String::from_utf8_lossy(&out.stderr).into_owned(),
            )),
        }
    }

    /// An authority, a key of it for all members of the etcd, and one for the nodes and the client.
    fn make_etcd_keys(&self) -> io::Result<()> {
        use rcgen::{
            BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Use, IsCa, Issuer, KeyPair,
        };
        let wrong = |e: rcgen::Error| io::Error::other(e.to_string());
        let key = KeyPair::generate().map_err(wrong)?;
        let mut authority = CertificateParams::new(Vec::new()).map_err(wrong)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = authority.self_signed(&key).map_err(wrong)?.pem();
        let issuer = Issuer::new(authority, key);
        let signed = |names: Vec<String>| -> io::Result<(String, String)> {
            let key = KeyPair::generate().map_err(wrong)?;
            let mut p = CertificateParams::new(names).map_err(wrong)?;
            // A member's own gateway is its client.
            p.extended_key_usages = vec![Use::ServerAuth, Use::ClientAuth];
            let cert = p.signed_by(&key, &issuer).map_err(wrong)?;
            Ok((cert.pem(), key.serialize_pem()))
        };
        let put = |dir: &Path, (cert, key): &(String, String)| -> io::Result<()> {
            for (name, text) in [
                ("etcd-ca.pem", &ca),
                ("etcd-cert.pem", cert),
                ("etcd-key.pem", key),
            ] {
                fs::write(dir.join(name), text)?;
            }
            Ok(())
        };
        self.make_dir("etcd")?;
        let members = (0..MEMBERS).map(|i| on_bridge(21 + i).to_string());
        put(&self.home.join("etcd"), &signed(members.collect())?)?;
        let ours = signed(vec!["node".to_string()])?;
        self.make_dir("client/keys")?;
        let nodes = self.nodes.iter().map(|n| n.name.as_str());
        nodes
            .chain(["client"])
            .try_for_each(|name| put(&self.home.join(name).join("keys"), &ours))
    }

    /// Starts a registry on the client's host.
    pub fn start_registry(&mut self) -> io::Result<()> {
        let config = self.home.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {REGISTRY}}}\n",
            self.home.join("registry").display()
        );
        fs::write(&config, text)?;
        let mut c = Command::new("docker-registry");
        c.arg("serve").arg(&config);
        self.registry = Some(self.spawn(c, &self.client, "registry.log")?);
        let up = until(Duration::from_secs(60), || {
            self.client
                .within(|| std::net::TcpStream::connect(REGISTRY))
                .is_ok()
        });
        match up {
            true => Ok(()),
            false => Err(io::Error::other("the registry does not listen")),
        }
    }

    /// It dies; what it has stays on its disk.
    pub fn kill_registry(&mut self) {
        if let Some(mut c) = self.registry.take() {
            let _ = c.kill();
            let _ = c.wait();
        }
    }

    /// Builds an image of a program of this host with its libraries, and pushes it as [`REGISTRY`]`/NAME`.
    pub fn push(&self, name: &str, command: &[String]) -> io::Result<()> {
        self.push_with(name, command, &[], "")
    }

    /// The same with other files of this host, and with more in its `ftvm.toml`.
    pub fn push_with(&self, name: &str, command: &[String], include: &[&str], more: &str) -> io::Result<()> {
        let words: Vec<String> = command.iter().map(|w| format!("{w:?}")).collect();
        let file = self.home.join("ftvm.toml");
        fs::write(
            &file,
            format!(
                "version = 1\ncommand = [{}]\nlimits = {{ memory = \"512m\" }}\n{more}",
                words.join(", ")
            ),
        )?;
        let name = format!("{REGISTRY}/{name}");
        let include: String = include.iter().map(|i| format!(" --include {i}")).collect();
        for line in [
            format!(
                "image build -f {} --from {}{include} -t {name}",
                file.display(),
                command[0]
            ),
            format!("image push --insecure-registry {REGISTRY} {name}"),
        ] {
            let args: Vec<String> = line.split(' ').map(str::to_string).collect();
            let mut c = self.ftvm("client", &args);
            self.within(&mut c, &self.client);
            let out = c.stdin(Stdio::null()).output()?;
            if !out.status.success() {
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                return Err(io::Error::other(format!("ftvm {line}: {}: {said}", out.status)));
            }
        }
        Ok(())
    }

    /// Writes the file of an app that is an image in the registry; `more`: what it has besides.
    pub fn image_file(&self, app: &App, image: &str, more: &str) -> io::Result<PathBuf> {
        let text = format!(
            "version = 1\nname = {:?}\nimage = \"{REGISTRY}/{image}\"\naddress = \"{}/{}\"\n{more}\n[protection]\ndetect-after = \
             {DETECT:?}\n",
            app.name,
            app.ip,
            net::PREFIX,
        );
        let path = self.home.join(format!("{}.toml", app.name));
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Runs a verb of `ftvm` on a node, as its user.
    pub fn verb_at(&self, i: usize, words: &[&str]) -> io::Result<Output> {
        let node = &self.nodes[i];
        let args: Vec<String> = words.iter().map(|w| w.to_string()).collect();
        let mut c = self.ftvm(&node.name, &args);
        self.within(&mut c, &node.host);
        c.stdin(Stdio::null()).output()
    }

    /// Files of nodes, members and clients that hold these words.
    pub fn holders(&self, words: &str) -> io::Result<Vec<PathBuf>> {
        let out = Command::new("grep")
            .args(["-rlaF", "--", words])
            .arg(&self.home)
            .output()?;
        // 1: there are none.
        match out.status.code() {
            Some(0 | 1) => Ok(String::from_utf8_lossy(&out.stdout)
                .lines()
                .map(PathBuf::from)
                .collect()),
            _ => Err(io::Error::other(
                String::from_utf8_lossy(&out.stderr).into_owned(),
            )),
        }
    }

    /// Arguments and environments of processes of ftvm that hold these words, and how many processes were looked at.
    pub fn tellers(&self, words: &str) -> io::Result<(Vec<String>, usize)> {
        let own = self.nodes.iter().filter_map(|n| n.ftvm.as_ref());
        let programs = std::iter::once(&self.ftvm)
            .chain(own)
            .map(fs::canonicalize)
            .collect::<io::Result<Vec<_>>>()?;
        let (mut found, mut looked) = (Vec::new(), 0);
        for entry in fs::read_dir("/proc")?.flatten() {
            let dir = entry.path();
            if !fs::read_link(dir.join("exe")).is_ok_and(|exe| programs.contains(&exe)) {
                continue;
            }
            let mut all = true;
            for name in ["cmdline", "environ"] {
                match fs::read(dir.join(name)) {
                    Ok(bytes) if bytes.windows(words.len()).any(|w| w == words.as_bytes()) => {
                        found.push(dir.join(name).display().to_string());
                    }
                    Ok(_) => {}
                    // It has ended meanwhile.
                    Err(_) => all = false,
                }
            }
            looked += usize::from(all);
        }
        Ok((found, looked))
    }

    /// Writes the file of replicas of an image in the registry. Returns it and the replicas.
    pub fn replicas_file(&self, app: &App, image: &str, n: u8) -> io::Result<(PathBuf, Vec<App>)> {
        let text = format!(
            "version = 1\nname = {:?}\nimage = \"{REGISTRY}/{image}\"\nreplicas = {n}\nready = \"tcp :{}\"\naddress = \
             \"{}/{}\"\n\n[protection]\ndetect-after = {DETECT:?}\n",
            app.name,
            app.server.port(),
            app.ip,
            net::PREFIX,
        );
        let path = self.home.join(format!("{}.toml", app.name));
        fs::write(&path, text)?;
        let replica = |i: u8| App {
            name: format!("{}-{}", app.name, i + 1),
            server: app.server,
            ip: (app.ip.to_bits() + u32::from(i)).into(),
        };
        Ok((path, (0..n).map(replica).collect()))
    }

    /// Directory for servers' files.
    pub fn files(&self) -> PathBuf {
        self.home.join("files")
    }

    /// URL of the arbiter. Each caller has another member first.
    fn arbiter(&self, first: usize) -> String {
        let member = |i: usize| format!("{}:{ETCD}", on_bridge(21 + (first + i) % MEMBERS));
        let all: Vec<String> = (0..MEMBERS).map(member).collect();
        format!("{}://{}", if self.tls { "etcds" } else { "etcd" }, all.join(","))
    }

    /// Starts a member of the etcd, with what it had.
    pub fn start_member(&mut self, i: usize) -> io::Result<()> {
        let scheme = |port| if self.tls && port == ETCD { "https" } else { "http" };
        let url = |i: usize, port: u16| format!("{}://{}:{port}", scheme(port), on_bridge(21 + i));
        let name = |i: usize| format!("e{}", i + 1);
        let all: Vec<String> = (0..MEMBERS)
            .map(|i| format!("{}={}", name(i), url(i, ETCD_PEER)))
            .collect();
        let mut c = Command::new("etcd");
        c.args(["--name", &name(i), "--initial-cluster", &all.join(",")])
            .args(["--data-dir", &self.home.join(name(i)).to_string_lossy()])
            .args(["--listen-client-urls", &url(i, ETCD)])
            .args(["--advertise-client-urls", &url(i, ETCD)])
            .args(["--listen-peer-urls", &url(i, ETCD_PEER)])
            .args(["--initial-advertise-peer-urls", &url(i, ETCD_PEER)]);
        if self.tls {
            let path = |name: &str| self.home.join("etcd").join(name).display().to_string();
            c.arg("--client-cert-auth")
                .args(["--trusted-ca-file", &path("etcd-ca.pem")])
                .args(["--cert-file", &path("etcd-cert.pem")])
                .args(["--key-file", &path("etcd-key.pem")]);
        }
        let child = self.spawn(c, &self.members[i].0, &format!("{}.log", name(i)))?;
        self.members[i].1 = Some(child);
        Ok(())
    }

    /// All members die, and come back without what they had.
    pub fn empty_members(&mut self) -> io::Result<()> {
        for i in 0..MEMBERS {
            self.kill_member(i);
            fs::remove_dir_all(self.home.join(format!("e{}", i + 1)))?;
        }
        (0..MEMBERS).try_for_each(|i| self.start_member(i))
    }

    /// A member dies.
    pub fn kill_member(&mut self, i: usize) {
        if let Some(mut c) = self.members[i].1.take() {
            let _ = c.kill();
            let _ = c.wait();
        }
    }

    fn spawn(&self, mut c: Command, host: &Host, log: &str) -> io::Result<Child> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.home.join(log))?;
        c.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.within(&mut c, host);
        c.spawn()
    }

    /// The command will run on that host, and end with this program.
    fn within(&self, c: &mut Command, host: &Host) {
        let fd = host.fd();
        c.current_dir(self.files());
        // SAFETY: only system calls between fork and exec.
        unsafe {
            c.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                match libc::setns(fd, libc::CLONE_NEWNET) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
    }

    fn ftvm(&self, home: &str, args: &[String]) -> Command {
        let own = self.home.join(home);
        let node = self.nodes.iter().find(|n| n.name == home);
        let program = node.and_then(|n| n.ftvm.as_ref()).unwrap_or(&self.ftvm);
        let mut c = Command::new(program);
        c.args(args)
            .env("XDG_RUNTIME_DIR", own.join("run"))
            .env("XDG_STATE_HOME", own.join("state"))
            .env("XDG_DATA_HOME", own.join("data"));
        // Nodes find theirs in --tls-dir.
        if self.tls && home == "client" {
            c.env("FTVM_ARBITER_KEYS", own.join("keys"));
        }
        c
    }

    /// Starts the daemon of a node; its cable is in.
    pub fn join(&mut self, i: usize) -> io::Result<()> {
        self.join_with(i, "")
    }

    /// The same with further options.
    pub fn join_with(&mut self, i: usize, more: &str) -> io::Result<()> {
        self.nodes[i].host.cable(true)?;
        let name = self.nodes[i].name.clone();
        // Two racks.
        let domain = format!("rack{}", i % 2 + 1);
        let line = format!(
            "node join --tls-dir {} --net eth0 --memory 4g --ttl {TTL} --metrics 127.0.0.1:9100 --name {name} --domain {domain} \
             --insecure-registry {REGISTRY} --listen {}:{AGENT} --arbiter {} {more}",
            self.home.join(&name).join("keys").display(),
            on_bridge(11 + i),
            self.arbiter(i)
        );
        let args: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        let c = self.ftvm(&name, &args);
        self.nodes[i].daemon = Some(self.spawn(c, &self.nodes[i].host, &format!("{name}.log"))?);
        Ok(())
    }

    /// A node dies: its cable first, so that nobody hears its processes end.
    pub fn kill(&mut self, i: usize) -> io::Result<()> {
        let node = &mut self.nodes[i];
        node.host.cable(false)?;
        end_all(&node.host)?;
        if let Some(mut c) = node.daemon.take() {
            let _ = c.wait();
        }
        Ok(())
    }

    /// These nodes and members are on a bridge of their own from now on, until [`Fleet::heal`].
    pub fn cut(&self, nodes: &[usize], members: &[usize]) -> io::Result<()> {
        let nodes = nodes.iter().map(|i| &self.nodes[*i].host);
        let members = members.iter().map(|i| &self.members[*i].0);
        nodes.chain(members).try_for_each(|h| h.move_to("br1"))
    }

    /// All are on one bridge.
    pub fn heal(&self) -> io::Result<()> {
        let nodes = self.nodes.iter().map(|n| &n.host);
        let members = self.members.iter().map(|(h, _)| h);
        nodes.chain(members).try_for_each(|h| h.move_to("br0"))
    }

    /// The daemon of a node has ended by itself.
    pub fn has_ended(&mut self, i: usize) -> bool {
        let daemon = self.nodes[i].daemon.as_mut();
        daemon.is_some_and(|c| matches!(c.try_wait(), Ok(Some(_))))
    }

    /// The daemon of a node ends by this signal and its images run on.
    pub fn end_daemon(&mut self, i: usize, signal: i32) -> io::Result<()> {
        if let Some(mut c) = self.nodes[i].daemon.take() {
            // SAFETY: our own child.
            unsafe { libc::kill(c.id() as i32, signal) };
            c.wait()?;
        }
        Ok(())
    }

    /// Number of the node of that name.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|n| n.name == name)
    }

    /// Runs a verb of `ftvm` on the client's host, told where the cluster is.
    pub fn verb(&self, words: &str) -> io::Result<Output> {
        let mut args: Vec<String> = words.split(' ').map(str::to_string).collect();
        args.extend(["--arbiter".to_string(), self.arbiter(0)]);
        let mut c = self.ftvm("client", &args);
        self.within(&mut c, &self.client);
        c.stdin(Stdio::null()).output()
    }

    /// The same; anything but success is an error.
    pub fn done(&self, words: &str) -> io::Result<String> {
        let out = self.verb(words)?;
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        match out.status.success() {
            true => Ok(text(&out.stdout)),
            false => Err(io::Error::other(format!(
                "ftvm {words}: {}: {}",
                out.status,
                text(&out.stderr)
            ))),
        }
    }

    /// Writes the file of an app, with arguments beyond those that its server needs.
    pub fn app_file(&self, app: &App, more: &[&str]) -> io::Result<PathBuf> {
        let mut command = vec![app.server.program().to_string()];
        command.extend(app.server.arguments(&self.files())?);
        command.extend(more.iter().map(|w| w.to_string()));
        let words: Vec<String> = command.iter().map(|w| format!("{w:?}")).collect();
        let text = format!(
            "version = 1\nname = {:?}\ncommand = [{}]\nworkdir = \"/tmp\"\naddress = \"{}/{}\"\n\n[limits]\nmemory = \
             \"512m\"\n\n[protection]\ndetect-after = {DETECT:?}\n",
            app.name,
            words.join(", "),
            app.ip,
            net::PREFIX,
        );
        let path = self.home.join(format!("{}.toml", app.name));
        fs::write(&path, text)?;
        Ok(path)
    }

    /// What was printed on a node, by its processes and in the logs of its runs.
    pub fn log(&self, i: usize) -> String {
        let name = &self.nodes[i].name;
        let mut text = fs::read(self.home.join(format!("{name}.log"))).unwrap_or_default();
        let runs = fs::read_dir(self.home.join(name).join("run/ftvm"));
        for run in runs.into_iter().flatten().flatten() {
            if let Ok(log) = fs::read(run.path().join("log")) {
                text.extend(format!("--- {}:\n", run.file_name().to_string_lossy()).bytes());
                text.extend(log);
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// All of them.
    pub fn logs(&self) -> String {
        (0..self.nodes.len())
            .map(|i| format!("=== {}:\n{}", self.nodes[i].name, self.log(i)))
            .collect()
    }

    /// Asks a node for a page of HTTP.
    pub fn fetch(&self, i: usize, port: u16, path: &str) -> io::Result<String> {
        use io::{Read, Write};
        self.nodes[i].host.within(|| {
            let mut conn = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            conn.set_read_timeout(Some(Duration::from_secs(60)))?;
            write!(conn, "GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")?;
            let mut text = String::new();
            conn.read_to_string(&mut text)?;
            Ok(text)
        })
    }
}

/// Waits until it is so; false if it is not in time.
pub fn until(patience: Duration, mut so: impl FnMut() -> bool) -> bool {
    let end = now_ns() + patience.as_nanos() as u64;
    loop {
        if so() {
            return true;
        }
        if now_ns() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Ends every process of a host, and those that they make meanwhile.
fn end_all(host: &Host) -> io::Result<()> {
    for _ in 0..6000 {
        let all = host.processes()?;
        if all.is_empty() {
            return Ok(());
        }
        for pid in all {
            // SAFETY: processes in a namespace that we made.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(io::Error::other("processes that do not end"))
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for n in &mut self.nodes {
            let _ = end_all(&n.host);
            if let Some(mut c) = n.daemon.take() {
                let _ = c.wait();
            }
        }
        self.kill_registry();
        for i in 0..self.members.len() {
            self.kill_member(i);
        }
        let _ = fs::remove_dir_all(&self.home);
    }
}
